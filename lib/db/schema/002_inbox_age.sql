-- The cleaner finds old inbox rows without reading the table: they are appended in the order of time.
CREATE INDEX inbox_age ON inbox USING brin (done_at);
