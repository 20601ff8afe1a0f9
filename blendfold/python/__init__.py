"""What `import blendfold` offers: everything that the commands do, with DataFrames in and out."""
