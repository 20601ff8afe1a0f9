"""Files, tables and object stores: how anything is read and written, whole or not at all."""
