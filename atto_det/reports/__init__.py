"""Tables, Markdown and plots of results."""
