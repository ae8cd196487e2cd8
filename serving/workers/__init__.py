"""Several server processes behind one address, and the process that watches over them."""
