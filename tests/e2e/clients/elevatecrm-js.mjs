// The package that docs/api/elevate.md imports is not published: its documented calls over the documented endpoints.
export class ElevateCRM {
  constructor({ apiUrl, accessToken }) {
    this.customers = {
      list: async query => {
        const r = await fetch(`${apiUrl}/api/v1/customers?` + new URLSearchParams(query), { headers: { Authorization: `Bearer ${accessToken}` } });
        if (!r.ok) throw new Error(`${r.status} ${await r.text()}`);
        return r.json();
      },
    };
  }
}
