"""Tables, Markdown and plots of what was measured."""
