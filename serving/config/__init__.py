"""From command line and files to the frozen options of every part."""
