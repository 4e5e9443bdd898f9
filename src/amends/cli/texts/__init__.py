"""What operators read: values of the API in, lines of text out."""
