"""The tests: unit/ needs nothing, integration/ real servers, acceptance/ the real command."""
