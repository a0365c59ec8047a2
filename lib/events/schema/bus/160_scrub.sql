-- Erasing a person: records that speak of them are written again without values. Place, id and headers stay, so no reader notices.
CREATE FUNCTION record_replace(of_topic text, of_xid xid8, of_position bigint, new_value bytea) RETURNS void
LANGUAGE sql SECURITY DEFINER SET search_path = {{schema}}, pg_temp AS $$
	UPDATE record SET value = new_value WHERE topic = of_topic AND xid = of_xid AND position = of_position
$$;
REVOKE ALL ON FUNCTION record_replace(text, xid8, bigint, bytea) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION record_replace(text, xid8, bigint, bytea) TO {{schema}}_app;
