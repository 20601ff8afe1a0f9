"""Files, tables and object stores: how everything is read, and written whole or not at all."""
