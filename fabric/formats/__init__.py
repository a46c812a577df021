"""Other people's files: access logs, inventories, invoices and traces, read into columns; and the fabric's own blob.

An *access* is one line of a log in the columns of `access.Accesses`, whatever program wrote it; a *mapping* is the
small TOML file that says where a format keeps them; a *listing* is an inventory as columns; a *charge* is one line of
an invoice with its kind (storage, get, put …) and storage class. An *account* says where every line went: nothing is
dropped in silence. What a reader had to assume stands in it as a sentence.
"""
