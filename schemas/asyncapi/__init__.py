"""The AsyncAPI 3.0 document of every channel and message; `document.asyncapi` makes it."""
