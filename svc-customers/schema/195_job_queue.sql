-- How many jobs wait and since when, over all tenants: numbers for /metrics, nothing of what is in them.
CREATE FUNCTION job_queue() RETURNS TABLE (queued bigint, running bigint, oldest_seconds bigint) LANGUAGE sql STABLE SECURITY DEFINER
SET search_path = {{schema}}, pg_temp AS $$
	SELECT count(*) FILTER (WHERE j.state = 'queued'), count(*) FILTER (WHERE j.state = 'running'),
		coalesce(extract(epoch FROM clock_timestamp() - min(j.created_at))::bigint, 0)
	FROM job j WHERE j.state IN ('queued', 'running')
$$;
REVOKE ALL ON FUNCTION job_queue() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION job_queue() TO {{schema}}_app;
ALTER FUNCTION job_queue() OWNER TO {{schema}}_search;
