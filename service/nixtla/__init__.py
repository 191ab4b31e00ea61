"""The wire format of the nixtla client: its requests in, our models' answers out."""
