"""What puts a pipeline file into AWS: the Lambda package, and templates made from the file."""
