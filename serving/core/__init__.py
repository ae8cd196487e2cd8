"""The words every other package speaks: ids, states, handles, loaders, sources, errors, time."""
