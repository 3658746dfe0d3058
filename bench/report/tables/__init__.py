"""Tables as data: rows of records and of papers under columns of metrics, apart from every format."""
