"""The report's figures: plain values in, Plotly figures out."""
