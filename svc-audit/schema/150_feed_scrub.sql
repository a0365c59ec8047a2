-- Erasing a person: their events in the feed lose what they say; place, id and type stay, so cursors do.
GRANT UPDATE (value) ON feed TO {{schema}}_app;
