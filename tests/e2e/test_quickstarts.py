"""The client code printed in the five documents runs as it stands; only host and credentials are put in."""

import os
import pathlib
import shutil
import subprocess

import pytest

from conftest import AT_5000, AT_8000, BASE, OFFSET, PASSWORD, Tenant
from documents import block, blocks

CLIENTS = pathlib.Path(__file__).parent / "clients"
SAAS_HOST = "https://api.yourdomain.com"
NODE_ENV = {**os.environ, "NODE_NO_WARNINGS": "1", "NODE_PATH": str(CLIENTS)}


def run(argv, source, path, env=None):
    path.write_text(source)
    r = subprocess.run([*argv, str(path)], capture_output=True, text=True, timeout=60, env=env or os.environ, cwd=path.parent)
    assert r.returncode == 0, f"{path.name} failed\n--- out\n{r.stdout}\n--- err\n{r.stderr}\n--- source\n{source}"
    return r.stdout


def node(source, tmp_path, name="client.mjs"):
    return run(["node"], source, tmp_path / name, NODE_ENV)


def saas_credentials(source, tenant):
    return source.replace(SAAS_HOST, AT_5000).replace("admin@company.com", tenant.email).replace("Admin@123", PASSWORD)


# What the document's snippets take for granted: a token, helpers, and a browser's idea of a relative URL.
def saas_prelude(tenant):
    return f"""
import crypto from 'node:crypto';
let accessToken = {tenant.token!r}, token = accessToken;
const sleep = ms => new Promise(done => setTimeout(done, ms));
const refreshToken = async () => {{ throw new Error('the token should not be refused'); }};
const realFetch = globalThis.fetch;
const fetch = (url, options) => realFetch(new URL(url, {AT_5000 + '/'!r}), options);
const expect = (condition, what) => {{ if (!condition) {{ console.error('expected: ' + what); process.exit(1); }} }};
"""


def test_saas_curl_quick_start(stack, tmp_path, unique):
    script = block("saas", "bash", "# 1. Register tenant")
    before, after = script.split("# Response:")
    use = after[after.index("# 3. Use token"):]
    email = f"{unique}@example.com"
    lines = before.replace("curl -X", "curl -sS --fail-with-body -X").replace("-d '{\n    \"email\": \"admin@company.com\",\n    \"password\": \"Admin@123\"\n  }'",
        "-d '{\n    \"email\": \"admin@company.com\",\n    \"password\": \"Admin@123\"\n  }' > login.json")
    source = (
        "set -e\n" + lines
        + "\nTOKEN=$(sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/' login.json)\n"
        + use.replace("eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9...", "$TOKEN").replace("curl -X", "curl -sS --fail-with-body -X")
    ).replace("http://localhost:5000", AT_5000).replace("admin@company.com", email)
    out = run(["bash"], source, tmp_path / "quick.sh")
    assert '"items":[]' in out and '"totalCount":0' in out


@pytest.fixture(scope="module")
def typescript():
    found = os.environ.get("CRM_TYPESCRIPT") or str(CLIENTS.parents[2] / "build/vendor/typescript/lib/typescript.js")
    assert pathlib.Path(found).exists(), f"{found} is missing: deploy/local/install-deps test fetches it"
    return found


def test_saas_typescript_sdk(tenant, typescript, tmp_path):
    source = saas_credentials(block("saas", "typescript", "class CrmApiClient"), tenant)
    (tmp_path / "client.ts").write_text(source)
    strip = "const ts=require(process.argv[1]),fs=require('fs');fs.writeFileSync('client.mjs',ts.transpileModule(fs.readFileSync('client.ts','utf8'),{compilerOptions:{target:'ES2022',module:'ESNext'}}).outputText)"
    subprocess.run(["node", "-e", strip, typescript], cwd=tmp_path, check=True, timeout=60)
    out = run(["node"], (tmp_path / "client.mjs").read_text() + "\nconst page = await client.getLeads();\nconsole.log(page.items.length, page.totalCount >= 1);\n",
              tmp_path / "sdk.mjs", NODE_ENV)
    assert "Lead created: lead_" in out and "true" in out


def test_saas_python_sdk(tenant, tmp_path):
    source = saas_credentials(block("saas", "python", "class CrmApiClient"), tenant)
    out = run(["python3"], source + "\npage = client.get_leads()\nassert page['totalCount'] >= 1 and page['items'][0]['id'].startswith('lead_')\n", tmp_path / "client.py")
    assert "Lead created: lead_" in out


def test_saas_php_sdk(tenant, tmp_path):
    assert shutil.which("php"), "php is missing: deploy/local/install-deps test installs it"
    source = saas_credentials(block("saas", "php", "class CrmApiClient"), tenant)
    out = run(["php"], source + "\n$page = $client->getLeads(); echo $page['totalCount'] >= 1 ? 'listed' : 'empty';\n", tmp_path / "client.php")
    assert "Lead created: lead_" in out and "listed" in out


def test_saas_error_handling_example(tenant, tmp_path):
    source = saas_prelude(tenant) + block("saas", "javascript", "Token expired - refresh and retry") .replace(SAAS_HOST, AT_5000) + """
const made = await createLead({firstName: 'Erin', lastName: 'Handler', email: 'erin@example.com'});
expect(made.id.startsWith('lead_'), 'an id like lead_123');
let refused;
try { await createLead({firstName: 'Erin', lastName: 'Handler', email: 'not-an-email'}); } catch (e) { refused = e; }
expect(refused && refused.message.length > 0, 'the message of the validation error');
"""
    node(source, tmp_path)


def test_saas_paging_helper_walks_all_pages(fresh, tmp_path):
    leads = [{"firstName": f"N{i}", "lastName": "Paged"} for i in range(205)]
    assert fresh.saas.post("/leads/bulk", json={"leads": leads}).json()["created"] == 205
    source = saas_prelude(fresh) + block("saas", "javascript", "async function getAllLeads").replace(SAAS_HOST, AT_5000) + """
const all = await getAllLeads();
expect(all.length === 205 && new Set(all.map(l => l.id)).size === 205, '205 different leads, got ' + all.length);
"""
    node(source, tmp_path)


def test_saas_token_manager_refreshes_without_content_type(fresh, tmp_path):
    source = saas_prelude(fresh) + block("saas", "javascript", "class TokenManager") + f"""
const m = new TokenManager();
m.refreshToken = {fresh.session['refreshToken']!r};
const first = await m.getValidToken();
expect(first && m.refreshToken !== {fresh.session['refreshToken']!r}, 'a rotated refresh token');
expect(await m.getValidToken() === first, 'the token is kept');
"""
    node(source, tmp_path)


def test_saas_batch_example_sends_text_plain(fresh, tmp_path):
    source = saas_prelude(fresh) + """const createLead = async lead => { throw new Error('not used'); };
""" + block("saas", "javascript", "async function createMultipleLeads") + """
const r = await createMultipleLeads([{firstName: 'A', lastName: 'One'}, {firstName: 'B', lastName: 'Two'}]);
expect(r.ok, 'bulk accepted, got ' + r.status);
const body = await r.json();
expect(body.created === 2, 'two leads');
"""
    node(source, tmp_path)


def test_saas_idempotency_example_creates_once(fresh, tmp_path):
    source = saas_prelude(fresh) + block("saas", "javascript", "generateIdempotencyKey") + """
const lead = {firstName: 'Ida', lastName: 'Potent', email: 'ida@example.com'};
const first = await (await createLead(lead)).json(), again = await createLead(lead);
expect(again.headers.get('Idempotency-Replayed') === 'true', 'the second answer is a replay');
expect((await again.json()).id === first.id, 'the same lead');
"""
    node(source, tmp_path)
    assert fresh.saas.get("/leads").json()["totalCount"] == 1


def test_saas_users_cache_example_without_a_token_is_refused_in_shape(tenant, tmp_path):
    source = saas_prelude(tenant) + block("saas", "javascript", "class CachedApiClient") + """
const answer = await new CachedApiClient().getUsers();
expect(answer.error.code === 'INVALID_TOKEN' && answer.traceId && answer.path === '/api/users', JSON.stringify(answer));
"""
    node(source, tmp_path)


def test_saas_retry_example(tenant, tmp_path):
    source = saas_prelude(tenant) + block("saas", "javascript", "async function apiCallWithRetry") + """
const page = await apiCallWithRetry('/api/leads', {headers: {Authorization: `Bearer ${token}`}});
expect(Array.isArray(page.items), 'a page');
"""
    node(source, tmp_path)


def test_saas_csharp_client_bodies(tenant):
    """System.Text.Json's default options: PascalCase members and explicit nulls (the client itself needs .NET)."""
    assert tenant.saas.post("/auth/login", json={"email": tenant.email, "password": PASSWORD}).status_code == 200
    r = tenant.saas.post("/leads", json={"FirstName": "John", "LastName": "Doe", "Email": "john@example.com", "Source": "Website", "Phone": None, "Company": None})
    assert r.status_code == 201, r.text
    assert (r.json()["firstName"], r.json()["source"], r.json()["phone"]) == ("John", "Website", None)


def system_credentials(source, tenant):
    return (source.replace("https://api.example.com", AT_5000).replace("user@example.com", tenant.email).replace("password123", PASSWORD))


def test_system_python_example_posts_a_form(tenant, tmp_path):
    source = system_credentials(block("system", "python", "import requests"), tenant)
    run(["python3"], source + "\nassert accounts['count'] >= 0 and 'results' in accounts, accounts\n", tmp_path / "system.py")


def test_system_javascript_example(tenant, tmp_path):
    source = system_credentials(block("system", "javascript", "const { access }"), tenant)
    node(source + "\nif (!Array.isArray(accounts.results)) process.exit(1);\n", tmp_path)


def test_mvp_sdk_examples_with_an_api_key(fresh, tmp_path):
    key = fresh.native.post("/api-keys", json={"name": "mvp sdk"}).json()["key"]
    lead = fresh.mvp.post("/leads", json={"name": "Jane Doe", "email": "jane@example.com", "status": "new"})
    assert lead.status_code == 201, lead.text
    for language, marker, argv, name in (("javascript", "@crm-mvp/sdk", ["node"], "mvp.mjs"), ("python", "crm_mvp_sdk", ["python3"], "mvp.py")):
        source = block("mvp", language, marker).replace("https://crm-backend-api.fly.dev", AT_8000).replace("your-api-key", key)
        source = source[:source.index("// Execute AI agent" if language == "javascript" else "# Execute AI agent")]
        check = ("\nif (leads.leads.length !== 1 || newLead.source !== 'api') process.exit(1);\n" if language == "javascript"
                 else "\nassert new_lead['source'] == 'api' and leads['total'] >= 1, (leads, new_lead)\n")
        if language == "javascript":
            source = source.replace("'@crm-mvp/sdk'", f"'{CLIENTS}/crm-mvp-sdk.mjs'")
        run(argv, source + check, tmp_path / name, {**os.environ, "PYTHONPATH": str(CLIENTS)})


def test_elevate_curl_examples(stack, tmp_path, unique):
    email = f"{unique}@example.com"
    import requests
    r = requests.post(BASE["elevate"] + "/auth/register", timeout=20,
                      json={"email": email, "password": "password123", "full_name": "Test User", "company_name": "ACME Corp", "company_size": "small", "industry": "technology"})
    assert r.status_code == 201, r.text
    script = block("elevate", "bash", "# Test authentication")
    source = script.replace("https://yourdomain.com", AT_8000).replace("test@example.com", email).replace("your-access-token", r.json()["access_token"])
    out = run(["bash"], "set -e\n" + source.replace("curl -X", "curl -sS --fail-with-body -X"), tmp_path / "elevate.sh")
    assert '"token_type":"bearer"' in out and '"has_next":false' in out


def test_elevate_sdk_example_lists_customers(fresh, tmp_path):
    fresh.elevate.post("/customers", json={"name": "Jane Doe", "email": "jane@example.com"})
    source = block("elevate", "javascript", "elevatecrm-js").replace("https://yourdomain.com", AT_8000).replace("your-access-token", fresh.token)
    source = source[:source.index("// Create order")].replace("'elevatecrm-js'", f"'{CLIENTS}/elevatecrm-js.mjs'")
    node(source + "\nif (customers.items.length !== 1 || customers.items[0].name !== 'Jane Doe') process.exit(1);\n", tmp_path)


def test_backend_examples_as_printed(fresh):
    """000 prints requests and replies, no client: every printed member is in our reply."""
    import json
    login = fresh.backend.post("/auth/login", json={"email": fresh.email, "password": PASSWORD, "rememberMe": False}).json()
    printed = [json.loads(b) for b in blocks("backend", "json")]
    sample = next(p for p in printed if "data" in p and isinstance(p["data"], dict) and "refreshToken" in p["data"])
    assert set(sample["data"]) <= set(login["data"]) and set(sample["data"]["user"]) <= set(login["data"]["user"])
    create = next(p for p in printed if p.get("companyName"))
    create = {**create, "tags": [], "assignedTo": login["data"]["user"]["id"]}
    made = fresh.backend.post("/customers", json=create)
    assert made.status_code == 201, made.text
    listed = fresh.backend.get("/customers").json()
    sample = next(p for p in printed if isinstance(p.get("data"), list) and p["data"] and isinstance(p["data"][0], dict))
    assert set(sample["data"][0]) <= set(listed["data"][0]), set(sample["data"][0]) - set(listed["data"][0])
    assert listed["meta"] == {"page": 1, "limit": 20, "total": 1, "totalPages": 1}
    for key, value in create.items():
        if key not in ("tags",):
            assert listed["data"][0][key] == value, key
    assert listed["data"][0]["assignedUser"]["email"] == fresh.email
