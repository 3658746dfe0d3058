"""Reports: tables as data, and formats as functions of them. Made from records and published scores alone."""
