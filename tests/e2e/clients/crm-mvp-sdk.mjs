// The package that docs/api/mvp.md imports is not published: its documented calls over the documented endpoints.
export class CrmClient {
  constructor({ baseUrl, apiKey }) {
    const call = async (method, path, body) => {
      const r = await fetch(baseUrl + path, {
        method, headers: { Authorization: `Bearer ${apiKey}`, 'Content-Type': 'application/json' }, body: body && JSON.stringify(body),
      });
      if (!r.ok) throw new Error(`${method} ${path}: ${r.status} ${await r.text()}`);
      return r.json();
    };
    this.leads = {
      getAll: query => call('GET', '/api/leads?' + new URLSearchParams(query)),
      create: lead => call('POST', '/api/leads', lead),
    };
  }
}
