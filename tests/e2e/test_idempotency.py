"""Idempotency-Key: one execution for any number of sends (R2)."""

import concurrent.futures


def test_parallel_and_later_sends_run_once(fresh, unique):
    send = lambda body=None: fresh.saas.post("/leads", json=body or {"firstName": "One", "lastName": "Time"}, headers={"Idempotency-Key": unique})
    with concurrent.futures.ThreadPoolExecutor(32) as pool:
        answers = list(pool.map(lambda _: send(), range(32)))
    answers += [send() for _ in range(5)]
    assert {r.status_code for r in answers} <= {201, 409}, {r.text for r in answers}
    ids = {r.json()["id"] for r in answers if r.status_code == 201}
    assert len(ids) == 1 and fresh.saas.get("/leads").json()["totalCount"] == 1
    assert answers[-1].headers["Idempotency-Replayed"] == "true" and answers[-1].status_code == 201
    other = send({"firstName": "Another", "lastName": "Body"})
    assert other.status_code == 422 and other.json()["error"]["code"] == "IDEMPOTENCY_MISMATCH"


def test_keys_belong_to_a_tenant(fresh, other, unique):
    for t in (fresh, other):
        r = t.mvp.post("/contacts", json={"name": "Same Key"}, headers={"Idempotency-Key": f'"{unique}"'})
        assert r.status_code == 201 and "Idempotency-Replayed" not in r.headers


def test_a_refused_request_does_not_use_the_key_up(fresh, unique):
    h = {"Idempotency-Key": unique}
    assert fresh.mvp.post("/leads", json={"name": ""}, headers=h).status_code == 422
    assert fresh.mvp.post("/leads", json={"name": "Now right"}, headers=h).status_code == 201


def test_update_and_delete_replay_too(fresh, unique):
    lead = fresh.mvp.post("/leads", json={"name": "Idem"}).json()
    for _ in range(2):
        assert fresh.mvp.put(f"/leads/{lead['id']}", json={"notes": "n"}, headers={"Idempotency-Key": unique + "u"}).status_code == 200
        assert fresh.mvp.delete(f"/leads/{lead['id']}", headers={"Idempotency-Key": unique + "d"}).status_code == 204
