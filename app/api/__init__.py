"""The HTTP interface: routes, schemas, and what stands before them."""
