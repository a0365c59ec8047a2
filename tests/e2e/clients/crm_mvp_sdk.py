"""The package that docs/api/mvp.md imports is not published: its documented calls over the documented endpoints."""

import requests


class CrmClient:
    def __init__(self, base_url, api_key):
        self.leads = Leads(base_url, {"Authorization": f"Bearer {api_key}"})


class Leads:
    def __init__(self, base_url, headers):
        self.url, self.headers = base_url + "/api/leads", headers

    def get_all(self, **query):
        r = requests.get(self.url, params=query, headers=self.headers, timeout=20)
        r.raise_for_status()
        return r.json()

    def create(self, lead):
        r = requests.post(self.url, json=lead, headers=self.headers, timeout=20)
        r.raise_for_status()
        return r.json()
