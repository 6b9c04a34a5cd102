from __future__ import annotations

import json
import time
from collections.abc import Callable
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from llma_core.redaction import Rules, is_clean, is_telling, judging_keys, marker, scrub, scrub_member
from llma_core.screen import automaton, prepare, scrub_text, surely_clean
from tests.llma_core.secrets_corpus import NEGATIVES, POSITIVES
from tests.support.each import for_each

# Secrets are assembled at run time, so that secret scanners find none in this repository.
MIX = "a1B2c3D4e5F6g7H8"
HEX = "0123456789abcdef"
KEY_LINES = [f"MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC{number:02}{MIX}"[:64] for number in range(20)]


def block(kind: str, *, headers: str = "", end: bool = True, lines: int = 20) -> str:
    last = f"\n-----END {kind}-----" if end else ""
    return f"-----BEGIN {kind}-----\n{headers}" + "\n".join(KEY_LINES[:lines]) + last


TOKENS = {
    "anthropic-key": ["sk-ant-" + "api03-" + MIX * 5 + "-" + MIX + "AA", "sk-ant-" + "oat01-" + MIX * 3],
    "openai-key": [
        "sk-" + MIX * 3,
        "sk-proj-" + MIX + "-" + MIX + "_" + MIX,
        "sk-svcacct-" + MIX * 4,
        "sk-or-v1-" + HEX * 4,
    ],
    "google-key": ["AIza" + "Sy" + (MIX * 3)[:33]],
    "google-oauth-secret": ["GOCSPX-" + MIX + "abcdefghijkl"],
    "google-oauth-token": ["ya29." + "a0AfH6SM" + MIX * 3, "1//0" + "g" + MIX * 3],
    "aws-key-id": ["AKIA" + "ABCD1234EFGH5678", "ASIA" + "ZYXW9876VUTS5432"],
    "github-token": [
        *(prefix + "_" + "a1B2" * 9 for prefix in ("ghp", "gho", "ghu", "ghs", "ghr")),
        "github_pat_" + "11ABCDEFG0" + MIX + "_" + MIX * 3,
    ],
    "gitlab-token": [
        *(prefix + "-" + "a1B2c-3D4e5_F6g7H8x9" for prefix in ("glpat", "gldt", "glrt", "glptt", "gloas")),
        "glpat-" + MIX * 2 + ".01.0z1x2c3v4",
    ],
    "slack-token": [
        "xoxb-" + "123456789012-" + "123456789012-" + MIX,
        "xoxp-" + "1-2-3-" + HEX * 2,
        "xoxe.xoxp-" + "1-" + MIX * 3,
        "xapp-" + "1-A012-345-" + HEX * 2,
    ],
    "stripe-key": ["sk_live_" + MIX + "abcd", "rk_live_" + MIX, "sk_test_" + MIX],
    "stripe-webhook-secret": ["whsec_" + MIX * 2],
    "npm-token": ["npm_" + "a1B2" * 9],
    "pypi-token": ["pypi-" + "AgEIcHlwaS5vcmc" + MIX * 4],
    "posthog-key": ["phx_" + MIX * 3],
    "hugging-face-token": ["hf_" + "AbCdEfGhIj" * 3 + "KLMN"],
    "jwt": ["eyJ" + "hbGciOiJIUzI1NiJ9" + "." + "eyJzdWIiOiIxMjM0NTY3ODkwIn0" + "." + MIX * 2 + "_-x"],
    "sendgrid-key": ["SG." + MIX + "-x1_y2" + "." + MIX * 2],
    "telegram-token": [":AA" + MIX * 2 + "-x"],
    "digitalocean-token": ["_v1_" + HEX * 4],
    "databricks-token": ["dapi" + HEX * 2],
    "docker-token": ["dckr_" + "pat_" + MIX + "-" + MIX],
    "vault-token": ["hvs." + MIX * 3],
    "linear-key": ["lin_api_" + MIX * 2],
    "notion-token": ["ntn_" + MIX * 3],
    "atlassian-token": ["ATATT3" + MIX * 4 + "=" + "1A2B3C4D"],
    "shopify-token": ["shpat_" + HEX * 2],
    "grafana-token": ["glsa_" + MIX * 2 + "_1a2b3c4d"],
    "sentry-token": ["sntrys_" + MIX * 3],
    "supabase-key": ["sbp_" + HEX * 2],
    "groq-key": ["gsk_" + MIX * 3],
    "xai-key": ["xai-" + MIX * 4],
    "replicate-token": ["r8_" + MIX * 2],
    "nvidia-key": ["nvapi-" + MIX * 4, "nvapi-" + MIX + "-" + MIX + "_" + MIX],
    "alibaba-key-id": ["LTAI" + "5t" + MIX + "Qx", "LTAI" + MIX[:14]],
    "perplexity-key": ["pplx-" + MIX * 3],
    "tavily-key": ["tvly-" + "dev-" + MIX * 2],
    "age-key": ["AGE-SECRET-KEY-1" + "QPZRY9X8GF2TVDW0" * 3],
    "new-relic-key": ["NRAK-" + "ABCDEFGH12345678JKLMNPQ"],
    "private-key": [
        block("RSA PRIVATE KEY"),
        block("PRIVATE KEY"),
        block("EC PRIVATE KEY", lines=3),
        block("ENCRYPTED PRIVATE KEY"),
        block("OPENSSH PRIVATE KEY"),
        block("RSA PRIVATE KEY", headers=f"Proc-Type: 4,ENCRYPTED\nDEK-Info: AES-128-CBC,{HEX.upper() * 2}\n\n"),
        block("PGP PRIVATE KEY BLOCK", headers="Version: GnuPG v2\n\n"),
    ],
}
# Two kinds of tokens are recognized only by what comes before them.
BEFORE = {"telegram-token": "123456789", "digitalocean-token": "dop"}
OWN_FORM = [(kind, secret) for kind, secrets in TOKENS.items() for secret in secrets]

AWS_SECRET = "wJalrXUtnFEMI/K7MDENG/" + "bPxRfiCYabcdefghij"
AROUND = (
    *("{}", "it is {} here", "before\n{}\nafter", "[{}]", "x={}", "`{}`", "'{}',", '"{}"', "before\\n{}\\nafter"),
    "\x1b[31m{}\x1b[0m",
)
# (text with {} for the secret, secret, kind)
NAMED = [
    # Environment variables and their files.
    ("PASSWORD={}", "hunter2", "password"),
    ("DB_PASSWORD={}", "correcthorse", "password"),
    ("DB_PASSWORD={}", "p@ss,w;ord&x", "password"),
    ("export API_KEY={}", "abc123def456", "key"),
    ('export API_KEY="{}"', "abc123def456", "key"),
    ("SECRET={}", "swordfish", "secret"),
    ("user=ada\npassword={}\nport=1", "swordfish", "password"),
    ("spring.datasource.password={}", "swordfish", "password"),
    ("TOKEN={} make", "abcdef123456", "token"),
    ("OPENAI_KEY={}", MIX * 2, "key"),
    ("SECRET_KEY_BASE={}", HEX * 4, "key"),
    ("AWS_SECRET_ACCESS_KEY={}", AWS_SECRET, "key"),
    ("aws_secret_access_key = {}", AWS_SECRET, "key"),
    ("//registry.npmjs.org/:_authToken={}", MIX + "-abc", "token"),
    ("docker run -e POSTGRES_PASSWORD={} postgres", "postgres1", "password"),
    # YAML, headers, prose.
    ("password: {}", "hunter2", "password"),
    ("password: {}", "s3cr3t!pass", "password"),
    ("  password: '{}'", "it is a phrase", "password"),
    ("POSTGRES_PASSWORD: {}", "postgres1", "password"),
    ("password: {}", "12345678", "password"),
    ("X-Api-Key: {}", MIX, "key"),
    ("API key: {}", MIX, "key"),
    ("the password is {}", "hunter2!", "password"),
    ("**Password:** {}", "hunter2", "password"),
    # JSON and code.
    ('{{"password": "{}"}}', "hunter2", "password"),
    ('{{"password":"{}"}}', "correct horse battery staple", "password"),
    ("{{'api_key': '{}'}}", "abcdef123456", "key"),
    ('{{"client_secret":"{}"}}', "zyxwvut9876", "secret"),
    ('{{"secret": "{}"}}', "hunter2", "secret"),
    ('{{"accessToken": "{}"}}', "abcdef123456", "token"),
    ('password = "{}"', "Tr0ub4dor&3", "password"),
    ('password: str = "{}"', "hunter2xyz", "password"),
    ("const token: string = '{}';", "abc123def456", "token"),
    ("os.environ['API_KEY'] = '{}'", "abc123def456", "key"),
    ("SECRET_KEY = '{}'", "django-insecure-abc#123$%z", "key"),
    ("connect(host, password='{}')", "geheim$parole", "password"),
    ("<password>{}</password>", "hunter2", "password"),
    ("CREATE USER x WITH PASSWORD '{}'", "hunter2", "password"),
    # Commands.
    ("--password {}", "s3cretpw", "password"),
    ("--password={}", "correcthorse", "password"),
    ("--token={} --verbose", "abcdef1234", "token"),
    ('mysql --password="{}" -u x', "my pw 12", "password"),
    ("curl -u bob:{} https://x", "hunter2!", "password"),
    ("machine h login me password {}", "hunter2", "password"),
    # Authorization headers.
    ("Authorization: Bearer {}", "abcdef.1234567", "authorization"),
    ("Authorization: Basic {}", "dXNlcjpwYXNz", "authorization"),
    ("curl -H 'Authorization: token {}' https://x", "abcdefgh12", "authorization"),
    ('"Authorization": "Bearer {}"', "abcdefgh12345678", "authorization"),
    ("Authorization:\n  Basic {}", "Ym9iOmh1bnRlcjIh", "authorization"),
    ('headers = ["Basic {}"]', "Ym9iOmh1bnRlcjIh", "authorization"),
    ("it sends basic {} then", "Ym9iOmFiPz4/Pz8+", "authorization"),
    ("send it as bearer {}", MIX + "." + MIX + MIX, "bearer-token"),
    # URLs and connection strings.
    ("postgres://user:{}@db.local/x", "p4ssw0rd", "url-password"),
    ("https://bob:{}@host/", "p@ss:w0rd", "url-password"),
    ("redis://:{}@cache:6379", "hunter2", "url-password"),
    (r"https:\/\/bob:{}@host\/", "hunter2", "url-password"),
    ("https://{}@github.com/a/b", MIX * 2, "url-token"),
    ("https://{}:$PASSWORD@github.com/a/b", MIX * 2, "url-token"),
    ("AccountName=x;AccountKey={};EndpointSuffix=core", MIX * 5 + "abcdef==", "key"),
    ("Endpoint=sb://x/;SharedAccessKeyName=Root;SharedAccessKey={}", MIX * 2 + "abc=", "key"),
    ("Server=x;Password={};User=y", "abc123!x", "password"),
    ("https://x.blob.core.windows.net/c?sv=2020&sig={}&se=1", "abc%2Fdef" + MIX + "%3D", "signature"),
    ("https://s3/x?X-Amz-Signature={}", HEX * 4, "signature"),
    ("https://x.oss.example/o?Expires=1&Signature={}", MIX * 2, "signature"),
    ("https://x/login?user=a&password={}", "swordfish", "password"),
    ("https://hooks.slack.com/services/{}", "T00000000/B00000000/" + MIX + "abcdefgh", "webhook"),
    ("https://discord.com/api/webhooks/{}", "123456789012345678/" + MIX * 4, "webhook"),
    ("https://x/?access_token={}&y=1", "abc123def456", "token"),
]

HARMLESS = r"""
commit 3f786850e387550fdab836ed7e6dc881de23001b
550e8400-e29b-41d4-a716-446655440000
"integrity": "sha512-7GZlN9dxK9ITjOEHFdTkV8S2qbbEW+E4RTPmHBKnkFlIaHKr0vAmI/5c6s5YCyZd1kGZkXk8vYQ6fVUuRPDm8A=="
"resolved": "https://registry.npmjs.org/foo/-/foo-1.2.3.tgz#3f786850e387550fdab836ed7e6dc881de23001b"
image: sha256:3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab836ed
checksum = "3f786850e387550fdab836ed7e6dc881de23001b3f786850e387550fdab836ed"
h1:7GZlN9dxK9ITjOEHFdTkV8S2qbbEW+E4RTPmHBKnkFl=
iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg==
token_count=123
password=password
password=getpass
    password=chosen
connect(user=user, password=chosen)
max_tokens: 4096
"input_tokens": 1234, "output_tokens": 99
per_token = 0.000003
--token-limit 4096
password: str
password: Optional[str] = None
password=None
api_key: str = Field(default=None)
os.environ["API_KEY"]
os.environ.get("API_KEY", "")
api_key = os.getenv("OPENAI_API_KEY")
api_key=os.environ["OPENAI_API_KEY"]
const token = process.env.GITHUB_TOKEN2;
TOKEN=${TOKEN}
TOKEN=$TOKEN
export TOKEN="$(cat token.txt)"
token: ${{ secrets.GITHUB_TOKEN }}
password: "{{ vault_password }}"
password: !Ref DbPassword1
token: <your-token>
API_KEY=<your-api-key>
API_KEY=your-api-key
API_KEY=xxxxxxxxxxxx
API_KEY=***
password: ********
password: example
sk-ant-...
sk-ant-api03-xxxxxxxxxxxxxxxxxxxxxxxx
sk-ant-your-key-here
AKIAIOSFODNN7EXAMPLE
AWS_SECRET_ACCESS_KEY=wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
phc_abcdefghijklmnop1234567890
POSTHOG_API_KEY=phc_abcdefghijklmnop1234567890
tokenizer = AutoTokenizer.from_pretrained("gpt2")
tokenizer="gpt2-medium-v2"
author: John Smith 1999
author = "abc12345"
secretary: Jane2
keyboard=us101
monkey: 12345
bypass=yes1
def login(user, password): return auth.check(user, password)
password = input("Password: ")
getpass.getpass('Password: ')
token = self.token
token=token
secret = config.secret
auth=HTTPBasicAuth(user, password)
if token == expected_token:
secrets.token_hex(32)
password = get_password()
private_key: ed25519.Ed25519PrivateKey
DEFAULT_LAST_PASS: Final
token: string;
password: string
auth: { type: "bearer" }
"auth": "oauth2"
token_type: bearer
"token": "comment.block"
"token": "string"
"password": "Enter your password"
"password": "Password"
["password", "username", "email2"]
type="password" name="password"
passwordField = document.getElementById("password")
The token is invalid
the password is required
use the --token flag to set
--password is required
`password`: the user's password
{"type":"string","description":"The API key: used for x1"}
Authorization: Bearer <token>
Authorization: Bearer $TOKEN
Authorization: `Bearer ${token}`
headers = {"Authorization": f"Bearer {token}"}
Authorization: required
https://user:password@example.com/
https://${USER}:${PASS}@host/
https://<username>:<password>@proxy-host:8080
http://localhost:8080/path@2x.png
git@github.com:owner/repo.git
ssh://git@github.com/owner/repo
docker run -u 1000:1000 image
-----BEGIN PRIVATE KEY-----
if text.startswith("-----BEGIN RSA PRIVATE KEY-----"):
"-----BEGIN PRIVATE KEY-----\n" + body + "\n-----END PRIVATE KEY-----"
-----BEGIN PRIVATE KEY-----\n...\n-----END PRIVATE KEY-----
sk-fading-circle-animation-delay
.sk-folding-cube-container { }
secretName: my-tls-secret
secret_name = "my-secret"
next_page_token="abc123def456ghi789"
eos_token="</s>"
PWD=/home/user/project
SSH_KEY=~/.ssh/id_rsa
private_key: /etc/ssl/private/key.pem
for key, value in items:
key = "abc123def456"
"key": "user:123:profile"
sort_key=created_at2
public_key = "abc123def456"
PASS: test_password_1
pass: 12 fail: 3
PASS=5
Basic authentication with user1234
the basic functionality1234 of it
Basic QWxhZGRpbg
Basic dXNlcjpwYXNzd29yZA==
password_hash = hash_password(password)
{"type": "keyword", "token": "support.function.C99"}
var a={auth:function(t){return t.token},token:e.token,password:t.value}
""".strip().splitlines()


def in_json(text: str, levels: int) -> str:
    """Encode *text* as JSON, and the result as JSON, and so on."""
    for _ in range(levels):
        text = json.dumps({"text": text, "after": "words"})
    return text


levels = for_each("levels", [0, 1, 2, 3])


def assert_gone(text: str, secret: str, kind: str) -> None:
    kinds: list[str] = []
    scrubbed = scrub(text, kinds)

    assert [line for line in secret.splitlines() if line and line in scrubbed] == []
    assert marker(kind) in scrubbed
    assert kind in kinds
    assert scrub(scrubbed) == scrubbed


# ---------------------------------------------------------------------- what goes


@levels
@for_each("kind, secret", OWN_FORM)
def test_what_has_a_form_of_its_own_goes(kind: str, secret: str, levels: int) -> None:
    for around in AROUND:
        assert_gone(in_json(around.format(BEFORE.get(kind, "") + secret), levels), secret, kind)


@levels
@for_each("written, secret, kind", NAMED)
def test_what_a_name_or_place_says_is_secret_goes(written: str, secret: str, kind: str, levels: int) -> None:
    for around in ("{}", "before\n{}\nafter"):
        said = around.format(written.format(secret))

        assert_gone(in_json(said, levels), secret, kind)
        assert scrub(said) == around.format(written.format(marker(kind)))


# Each has the letters of a telling word in it, as many passwords do, and most have a capital.
TELLING_PASSWORDS = [
    *("Password123!", "Monkey2024!", "Whiskey!9x", "Hockey#77", "Mickey#1928", "Passw0rd", "P@ssKey", "Secret-4711"),
    *("MyToken99", "Authentic9!", "Credo2024", "Pwd!Pwd", "Turkey7", "Tokyo-Key-7", "SuperSecret", "Monkey-Business"),
    *(
        "KEYBOARD-cat9",
        "monkey-business",
        "hockey_stick",
        "SECRET_GARDEN_1x",
        "Compass.Rose",
        "Key/West/1",
        "MonkeyBars",
    ),
    *("Letmepass!", "Swordfish", "Mickey", "Sacred", "Tr0ub4dor&Key", "Passion Fruit 9", "Whiskey, neat"),
]


@levels
@for_each("password", TELLING_PASSWORDS)
@for_each(
    "written",
    [
        *('"password": "{}"', "'password': '{}'", 'password = "{}"', "password: '{}'", 'DB_PASSWORD="{}"', "pwd=`{}`"),
        *('--password="{}"', "export PGPASSWORD='{}'", 'password: str = "{}"', "<password>{}</password>"),
        *("'passphrase' => '{}',", '"dbPassword":"{}"', '{{"body": "{{\\"password\\": \\"{}\\"}}"}}', 'passwd := "{}"'),
    ],
)
def test_a_quoted_password_goes_whatever_words_are_in_it(password: str, written: str, levels: int) -> None:
    assert_gone(in_json(written.format(password), levels), password, "password")


@for_each("password", TELLING_PASSWORDS)
def test_a_password_in_a_member_of_its_name_goes_whatever_words_are_in_it(password: str) -> None:
    for key in ("password", "DB_PASSWORD", "dbPwd"):
        assert scrub_member(key, password) == marker("password")


@for_each("written", ["client_secret = '{}'", "SECRET={}", '"appSecret": "{}"', '"api_key": "{}"', "API_KEY={}"])
@for_each("secret", ["Monkey24!", "Hockey77", "Turkey99!", "Password24!"])
def test_a_quoted_secret_goes_whatever_words_are_in_it(secret: str, written: str) -> None:
    assert secret not in scrub(written.format(secret))


@for_each(
    "name",
    [
        *("DB_PASSWORD", "DB_PASSWORD_2", "dbPassword", "db-password", "user.password", "X-Auth-Token", "secretName"),
        *("passwordField", "ResetPassword", "PasswordField", "auth/token", "credentials_id", "Passwort", "Contraseña"),
    ],
)
def test_a_value_that_is_the_name_of_a_secret_stays(name: str) -> None:
    for written in ('"password": "{}"', "password = '{}'"):
        text = written.format(name)
        assert scrub(text) is text


@levels
@for_each("margin, lines", list(product(["", "+", "    ", "> ", '    "', "     7→"], [1, 2, 20])))
def test_of_a_private_key_that_is_cut_off_nothing_stays(margin: str, lines: int, levels: int) -> None:
    cut_off = block("RSA PRIVATE KEY", end=False, lines=lines)[:-10]
    key = "\n".join(margin + line for line in cut_off.splitlines())

    scrubbed = scrub(in_json(f"cat key\n{key}", levels))

    assert marker("private-key") in scrubbed
    assert [line for line in cut_off.splitlines() if line in scrubbed] == []


def test_the_secret_beside_an_aws_key_id_goes_too() -> None:
    line = "AKIA" + "ABCD1234EFGH5678" + "," + AWS_SECRET

    assert scrub(line) == f"{marker('aws-key-id')},{marker('aws-secret-key')}"


def test_the_name_and_everything_around_a_value_stay() -> None:
    env = "A=1\nDB_PASSWORD=hunter2\nB=2\n"

    assert scrub(env) == "A=1\nDB_PASSWORD=[REDACTED:password]\nB=2\n"


def test_a_value_with_a_form_of_its_own_says_what_it_is() -> None:
    assert scrub("GITHUB_TOKEN=" + "ghp_" + "a1B2" * 9) == "GITHUB_TOKEN=[REDACTED:github-token]"


def test_each_secret_is_noted() -> None:
    kinds: list[str] = []
    scrub(f"password=hunter2 {'ghp_' + 'a1B2' * 9} password=hunter3", kinds)

    assert sorted(kinds) == ["github-token", "password", "password"]


def test_a_quoted_value_may_hold_quotes() -> None:
    assert scrub(r'{"password": "pa\"ss w0rd", "n": 1}') == '{"password": "[REDACTED:password]", "n": 1}'


@for_each("quote", ['"', "'", ""])
def test_a_value_without_end_goes_whole(quote: str) -> None:
    assert scrub(f"api_key={quote}{MIX * 500}") == f"api_key={quote}[REDACTED:key]"


# ---------------------------------------------------------------------- what stays


@levels
@for_each("text", HARMLESS)
def test_what_is_no_secret_stays(text: str, levels: int) -> None:
    for said in (text, f"before\n{text}\nafter"):
        nested = in_json(said, levels)
        assert scrub(nested) is nested


# ---------------------------------------------------------------------- a corpus


def test_no_secret_of_the_corpus_stays() -> None:
    assert len(POSITIVES) >= 300
    stays = [
        (text, said)
        for text, secret in POSITIVES
        for said in (text, f"before\n{text}\nafter", in_json(text, 1), in_json(text, 2))
        if secret in scrub(said)
    ]
    assert stays == []


def test_the_first_look_suspects_the_rules_that_find_the_secrets_of_the_corpus(
    first_look: Callable[[bytes], Rules],
) -> None:
    for text, _ in POSITIVES:
        said = json.dumps(text).encode()
        assert not is_clean(said), text
        assert scrub(text, [], first_look(said)) == scrub(text), text


def test_a_member_may_name_the_secret_in_the_next_one() -> None:
    named = {"key": "DB_PASSWORD", "value": "x", "name": "monkey"}
    assert list(judging_keys(named)) == ["key", "DB_PASSWORD", "name"]
    assert list(judging_keys({"name": "DB_PASSWORD", "type": "x", "value": 1})) == ["name", "type", "DB_PASSWORD"]
    assert list(judging_keys({"Value": 1, "Name": "DB_PASSWORD"})) == ["DB_PASSWORD", "Name"]
    pair = {"ParameterValue": 1, "ParameterKey": "DB_PASSWORD", "value": 2, "name": "monkey"}
    assert list(judging_keys(pair)) == ["DB_PASSWORD", "ParameterKey", "DB_PASSWORD", "name"]
    assert list(judging_keys({"name": "monkey", "value": 1})) == ["name", "value"]
    assert list(judging_keys({"name": 5, "value": 1})) == ["name", "value"]


def test_at_least_95_of_100_texts_of_the_corpus_without_a_secret_stay() -> None:
    assert len(NEGATIVES) >= 300
    lost = {
        text
        for text in NEGATIVES
        for said in (text, f"before\n{text}\nafter", in_json(text, 1), in_json(text, 2))
        if scrub(said) != said
    }
    assert len(lost) <= 0.05 * len(NEGATIVES), sorted(lost)


@levels
@for_each(
    "text",
    [
        *('ok ? "PASS" : "FAIL"', "**Tests pass**: `cmd`", '"$PWD:/work"', "'password' => 'required|string|min:8'"),
        *('"password=" + password', 'publicKeyToken="b03f5f7f11d50a3a"', "rootIpnsPrivateKey: Uint8Array"),
        *(".pgpass is read in app.py:5432:17:error:x1", ".pgpass src/app.py:543:error:unused:import1"),
        *(
            "${POSTGRES_PASSWORD:?set it first}",
            "const token = authHeader?.substring(7)",
            "`Password:` the one you set",
        ),
    ],
)
def test_code_that_names_a_secret_stays(text: str, levels: int) -> None:
    for said in (text, f"before\n{text}\nafter"):
        nested = in_json(said, levels)
        assert scrub(nested) == nested


# ---------------------------------------------------------------------- members of objects


@for_each(
    "key, value, left",
    [
        ("password", "hunter2", "[REDACTED:password]"),
        ("DB_PASSWORD", "swordfish", "[REDACTED:password]"),
        ("api_key", "abcdef123456", "[REDACTED:key]"),
        ("clientSecret", "zyxwvut9876", "[REDACTED:secret]"),
        ("password", 12345678, "[REDACTED:password]"),
        ("Authorization", "Basic dXNlcjpwYXNz", "Basic [REDACTED:authorization]"),
        ("Authorization", "Bearer $TOKEN", "Bearer $TOKEN"),
        ("authorization", "export PASSWORD=hunter2", "export PASSWORD=[REDACTED:password]"),
        ("token", "ghp_" + "a1B2" * 9, "[REDACTED:github-token]"),
        ("api_key", MIX * 200, "[REDACTED:key]"),
        ("command", "export PASSWORD=hunter2", "export PASSWORD=[REDACTED:password]"),
        ("password", f"a1!{'ghp_' + 'a1B2' * 9}", "[REDACTED:password]"),
        ("password", "${DB_PASSWORD}", "${DB_PASSWORD}"),
        ("password", "string", "string"),
        ("password", 3, 3),
        ("password", True, True),
        ("max_tokens", 4096, 4096),
        ("token_count", 123456, 123456),
        ("key", "abc123def456", "abc123def456"),
        ("id", "toolu_01A09q90qw90lq917835lq9", "toolu_01A09q90qw90lq917835lq9"),
    ],
)
def test_a_members_key_may_say_that_it_is_a_secret(key: str, value: str | int, left: str | int) -> None:
    kinds: list[str] = []

    assert scrub_member(key, value, kinds) == left
    assert bool(kinds) == (left != value)
    assert is_telling(key) or scrub_member("of no meaning", value) == left
    assert scrub_member(key, left) == left


# ---------------------------------------------------------------------- any text

ANY_SECRET = st.sampled_from(OWN_FORM)
# No letters, digits or underscores: what surrounds a token must not change where it begins and ends.
EDGE = st.sampled_from(["", " ", "\n", '"', "'", "`", "=", ":", ",", "(", ")", "\t", "/", "é", "\u2028", "\x00", "\\n"])
WORDS = st.text(max_size=60) | st.sampled_from(["password", "token: ", "{", "}", "[REDACTED:", "x" * 2000, "\ud800"])
PIECES = st.lists(
    st.text(max_size=6)
    | st.sampled_from(
        [
            *("password", "PASSWORD", "secret", "token", "api_key", "API_KEY", "auth", "Authorization", "key", "is"),
            *(
                "=",
                ":",
                " ",
                "\n",
                '"',
                "'",
                "`",
                "\\",
                '\\"',
                "\\n",
                ",",
                ";",
                "(",
                ")",
                "[",
                "]",
                "{",
                "<",
                ">",
                "--",
            ),
            *("hunter2", "abc123def456", "://", "user:", "@host", "Bearer ", "sig=", "curl -u ", "[REDACTED:", "]"),
            *("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----", "[REDACTED:password]", "\ud800", "É"),
            *(secret for _, secret in OWN_FORM),
        ]
    ),
    max_size=14,
).map("".join)


@for_each("after", ["/" + "x" * 100, "/" + "0" * 200, "+" + "X" * 2000])
def test_a_mask_behind_a_token_makes_no_sample_of_it(after: str) -> None:
    assert "a1B2c3D4" not in scrub(f"whsec_a1B2c3D4e5F6g7H8{after}")


@for_each("sample", ["whsec_" + "x" * 32, "whsec_a1B2" + "x" * 28, "sk-ant-api03-" + "x" * 40, "ghp_" + "0" * 36])
def test_a_masked_token_is_a_sample(sample: str) -> None:
    assert scrub(sample) == sample


@given(secret=ANY_SECRET, before=WORDS, left=EDGE, right=EDGE, after=WORDS, levels=st.integers(0, 3))
def test_no_text_around_it_lets_a_secret_out(
    secret: tuple[str, str], before: str, left: str, right: str, after: str, levels: int
) -> None:
    kind, token = secret
    said = f"{before}{left or ' '}{BEFORE.get(kind, '')}{token}{right or ' '}{after}"

    scrubbed = scrub(in_json(said, levels))

    assert [line for line in token.splitlines() if line and line in scrubbed] == []


@given(PIECES | st.text())
@example("[REDACTED:password]")
@example('password="[REDACTED:github-token]"')
def test_scrubbing_twice_is_scrubbing_once(text: str) -> None:
    scrubbed = scrub(text)

    assert scrub(scrubbed) == scrubbed


@given(st.text(alphabet=st.characters(exclude_characters="=:/pstakAGhgyx-_.1eE\"'")))
def test_a_text_without_anything_telling_is_the_same_object(text: str) -> None:
    assert scrub(text) is text


@given(st.binary())
def test_any_bytes_do_no_harm(data: bytes) -> None:
    for text in (data.decode("latin-1"), data.decode("utf-8", "replace"), data.decode("utf-8", "surrogateescape")):
        scrub(text)
        scrub_member(text, text)


# ---------------------------------------------------------------------- JSON that is not decoded

FEW_PIECES = st.lists(
    st.sampled_from(
        [
            *(
                "password",
                "PASS",
                "pwd",
                "psk",
                "key",
                "rabbitmqctl add_user ada ",
                "net user ada ",
                ".login('ada','",
                ".pgpass h:5432:d:u:",
                "h:5432:d:u:",
                "AUTH ",
                "sqlplus ada/",
                "vault login ",
                "new PDO('d', 'u', '",
                "_bind(",
                "mysqladmin ",
                "client_secret",
                "token",
                "tokens",
                "api_key",
                "keystaging",
                "auth",
                "is",
                "was",
            ),
            *(
                "_prod",
                "-production",
                ".1",
                "s",
                "=",
                ":",
                " ",
                "  ",
                "\n",
                "\t",
                "\r",
                "\x1b[1m",
                "\x1f",
                '"',
                "'",
                "\\",
            ),
            *(
                ",",
                "]",
                "`",
                "*",
                "!",
                ">",
                "/",
                "<",
                "@",
                "--",
                "-u",
                "curl",
                "login ",
                "://",
                ":\\/\\/",
                "user:",
                "é",
            ),
            *("hunter2", "abc123def456", "swordfish", "u003d", "n", "b", "bearer ", "Signature=", "sig=", "/webhooks/"),
            *(
                "Cookie",
                "sid=",
                "; ",
                "name",
                "value",
                "mysql",
                "mongo",
                "sshpass",
                " login ",
                " -p",
                " -h x",
                "redis-cli",
            ),
            *(" -a ", "-passin ", "pass:", "client ", " -U ", "a%", "ldapadd", " -w"),
            *(
                "echo ",
                "|",
                "<<",
                "<<<",
                "--password-stdin",
                "sudo -S",
                "passwd",
                "curl",
                " -u ",
                "kind: Secret",
                "data:",
            ),
            *(" is ", "my ", "setx ", "ENV ", "set -x ", "require", "master", "type", "variable ", "default = ", "("),
            *(
                "http -a ",
                "-creds ",
                "secret set",
                "zip -P ",
                "%3d",
                "</key>",
                " for ",
                "string = ",
                "|\n  ",
                "openssl enc -k ",
            ),
            *("an_ordinary_but_very_long_name", "xoxb-abcdefghij", "hooks.slack.com/services/", MIX, MIX * 3, "ya29."),
            *(secret for _, secret in OWN_FORM),
        ]
    ),
    max_size=5,
).map("".join)
SAID = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-99999, 99999)
    | st.floats(allow_nan=False, allow_infinity=False)
    | FEW_PIECES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(FEW_PIECES, inner, max_size=3),
    max_leaves=4,
)
WRITERS: list[Callable[[Any], bytes]] = [
    lambda value: json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode(),
    lambda value: json.dumps(value, indent=1).encode(),
    lambda value: json.dumps(value).replace("/", "\\/").encode(),
    lambda value: json.dumps(value).replace("//", "/\\/").encode(),
    lambda value: json.dumps(json.dumps(value)).encode(),
]


def all_scrubbed(value: Any) -> Any:
    if isinstance(value, str):
        return scrub(value)
    if isinstance(value, list):
        return [all_scrubbed(item) for item in value]
    if isinstance(value, dict):
        return {
            scrub(key): scrub_member(judge, item)
            if isinstance(item, str | int) and not isinstance(item, bool)
            else all_scrubbed(item)
            for (key, item), judge in zip(value.items(), judging_keys(value), strict=True)
        }
    return value


@given(value=SAID, write=st.sampled_from(WRITERS))
@example(value={"a": "xoxb-abcdefghij\n\n\n an_ordinary_but_very_long_name"}, write=WRITERS[0])
@example(value={"tokenprod": "abc123def456"}, write=WRITERS[0])
@example(value={"password": 123456}, write=WRITERS[0])
@example(value={"name": "DB_PASSWORD", "value": 123456}, write=WRITERS[1])
@example(value={"a": "name: token\n\tvalue: abc123def456"}, write=WRITERS[4])
@example(value="-pass: -passin \\'pass:hunter2x", write=WRITERS[4])
@example(value="https://user:swordfish1@host", write=WRITERS[3])
@example(value="https://us\x1ber:swordfish1@host", write=WRITERS[0])
def test_json_is_clean_only_if_scrubbing_would_leave_it_as_it_is(value: Any, write: Callable[[Any], bytes]) -> None:
    data = write(value)
    said = json.loads(data)

    assert not is_clean(data) or all_scrubbed(said) == said


@pytest.fixture(scope="module")
def first_look() -> Callable[[bytes], Rules]:
    pytest.importorskip("hyperscan", reason="has no build for this machine")
    suspected = automaton()
    assert suspected is not None, "it cannot be built of these expressions"
    return suspected


@given(
    data=st.builds(lambda value, write: write(value), SAID, st.sampled_from(WRITERS))
    | PIECES.map(lambda text: text.encode("utf-8", "surrogatepass"))
    | st.binary()
)
@example(data=b'"https://us\\u0001er:swordfish1@host"')
@example(data=b'"password" : 123456')
@example(data=b'"-token abc login x"')
def test_what_the_first_look_lets_pass_is_clean(first_look: Callable[[bytes], Rules], data: bytes) -> None:
    suspected = first_look(data)
    assert suspected or is_clean(data)
    assert is_clean(data, suspected) == is_clean(data)
    assert surely_clean(data) == is_clean(data)


@pytest.fixture(scope="module")
def prepared_screen() -> None:
    """Let the screen build its automaton."""
    prepare()


@pytest.mark.usefixtures("prepared_screen")
@given(text=PIECES, padding=st.sampled_from(["", "and more words, " * 5]))
@example(text="password = swordfish1 \ud800", padding="x" * 64)
def test_text_is_scrubbed_alike_with_a_first_look(text: str, padding: str) -> None:
    text = f"{padding}{text}{padding}"
    found: list[str] = []
    found_first: list[str] = []
    assert scrub_text(text, found_first) == scrub(text, found)
    assert found_first == found


@for_each("kind, secret", OWN_FORM)
def test_the_first_look_sees_what_has_a_form_of_its_own(
    first_look: Callable[[bytes], Rules], kind: str, secret: str
) -> None:
    assert first_look(json.dumps(f"a {BEFORE.get(kind, '')}{secret} b").encode())


@for_each(
    "text",
    [
        *(f"{BEFORE.get(kind, '')}{secret}" for kind, secret in OWN_FORM),
        *(written.format(secret) for written, secret, _ in NAMED),
    ],
)
@for_each("around", ["{}", "a {} b", '{{"a": "{}"}}', "\n{}\n"])
def test_the_rules_that_the_first_look_suspects_find_what_all_rules_find(
    first_look: Callable[[bytes], Rules], text: str, around: str
) -> None:
    text = around.format(text) + " and more words" * 5
    found: list[str] = []
    found_by_all: list[str] = []

    assert scrub(text, found, first_look(json.dumps(text).encode())) == scrub(text, found_by_all)
    assert found == found_by_all


@for_each("write", WRITERS)
@for_each("written, secret", [(written, secret) for written, secret, _ in NAMED])
def test_the_first_look_sees_what_a_name_or_place_says_is_secret(
    first_look: Callable[[bytes], Rules], written: str, secret: str, write: Callable[[Any], bytes]
) -> None:
    for around in ("{}", "before\n{}\nafter"):
        assert first_look(write({"text": around.format(written.format(secret))}))


@for_each(
    "name, value",
    [
        *(
            (name, "swordfish99")
            for name in ("password", "db_pwd", "clientSecret", "api_key", "token", "Authorization")
        ),
        *((name, 12345678) for name in ("password", "db_pwd", "PGPASS")),
    ],
)
def test_the_first_look_sees_a_member_whose_key_says_that_it_is_a_secret(
    first_look: Callable[[bytes], Rules], name: str, value: str | int
) -> None:
    assert first_look(json.dumps({"id": 5, name: value}).encode())


@for_each(
    "data",
    [
        b'{"type":"tool_result","tool_use_id":"toolu_01","content":"\\u001b[1mthe key to it: a tokenizer, 5 tokens"}',
        b'{"$ai_input_tokens":12,"$ai_output_tokens":5,"$ai_usage":{"cache_read_input_tokens":7}}',
        b'{"signature":"EqQBCkYIBxgCKkDz+/=","cwd":"/srv/orchard","sessionId":"0b7f4c1e-9a55-4a8e-8b39-3a8c2ce7f3aa"}',
        b'"Run set -e first; ENV and COPY come later, then pass two paths, a token and upw=5."',
    ],
)
def test_the_first_look_lets_pass_what_content_mostly_is(first_look: Callable[[bytes], Rules], data: bytes) -> None:
    assert not first_look(data)


@for_each(
    "data",
    [
        b'{"input_tokens":12,"cache_creation":{"ephemeral_5m_input_tokens":5},"service_tier":"standard"}',
        b'{"keys":["a"],"token":null,"secret":true,"auth":{},"monk":"passed, tokens) and the key\\nof C:/x"}',
        b'{"command":"cd /srv && git log --oneline","url":"https://example.com/a?b=c"}',
        b'"\\u001b[1mbold\\u001b[0m \\"quoted\\" a_name_of_many_words toolu_01A09q90qw90lq917835lq9 design"',
    ],
)
def test_what_content_mostly_is_is_clean(data: bytes) -> None:
    assert is_clean(data)


@for_each("data", [b'"token"', b"[1]", b"null", b""])
def test_the_shortest_json_is_clean(data: bytes) -> None:
    assert is_clean(data)


# ---------------------------------------------------------------------- time


REPEATED = [
    *(secret[: len(secret) // 2] for kind, secret in OWN_FORM if kind != "private-key"),
    *("sk-", "AIza", "eyJ", "-eyJ", "eyJa.", "SG.", "gl", "://", "://a:", "a:", "key", "auth", "token", "pass"),
    *("password=", 'password="', '\\"password\\":\\"', 'api_key=\\"', "password: ", "--password ", "<password>"),
    *("Authorization: Bearer ", "bearer ", "sig=", "curl -u ", "-u a:", "hooks.slack.com/services/", "password is "),
    *("-----BEGIN PRIVATE KEY-----", "-----BEGIN ", "-----BEGIN RSA PRIVATE KEY-----\nMIIE", "PRIVATE KEY"),
    *(
        "basic ",
        "basic abcdefgh",
        "authorization:",
        "authorization=bearer ",
        "authorization:digest <",
        "auth:f(){",
        "token:a.",
        "-u",
        "hooks/",
    ),
    *("cookie=", "Cookie: a=b; ", "cookie: a=" + MIX * 2 + ";", "-ba=", "curl -b a=b;", "value:", "name:token,value:"),
    *(
        "name: token\nvalue: a1\n",
        "key",
        "mysql",
        "mysql -pa1b2c3 ",
        " login ",
        " login -p a",
        "sshpass -p",
        "client -U a%",
    ),
    *("-passin pass:", "-pass", "redis-cli -a ", "ldapadd -w\\\n"),
    *(
        "echo x | ",
        "echo x | passwd ",
        "passwd <<< a ",
        "<<",
        "passwd <<EOF\na\n",
        "kind: secret\ndata:\n a: bcde\n",
        "data:\n",
    ),
    *(
        "a is my password ",
        "is a password ",
        'variable "db_password" {',
        "auth('a','b",
        "password:\n  ",
        "password: |\n ",
    ),
    *(
        "name: token,",
        "value:1,name:token,",
        "curl -u a:b\n",
        "curl -u",
        " -p",
        "\\\n -p",
        "set -x token ",
        "user: pass ",
    ),
    *(
        "user a identified by 'b' ",
        "identified with ",
        "rabbitmqctl -n a ",
        "a.login('b',",
        "rabbitmqctl add_user a ",
        "net user ",
        "net use \\\\a ",
        ".pgpass a:1:b:c:",
        "a:5432:b:c:",
        ":5432:a",
        "AUTH ",
        "sqlplus -s ",
        "vault login -a ",
        "new PDO('a',",
        "mysqli('a','b',",
        "getConnection(a,",
        "ldap_bind(",
        "mysqladmin password ",
        "psk=",
        "7z -p",
        "jwt.sign({",
        "jwt.sign(a(,",
    ),
    *("password: a" + "-" * 100 + "~ ", "password" + " " * 40, "password is ", "token\t", "PASSWORD=a;"),
    *("\\", '\\"', '"', "[REDACTED:", "[REDACTED:password]", "é", "_" * 63 + "token=", "a", "aA1", "w" * 17 + " "),
]


def seconds_for(piece: str, size: int) -> float:
    """Return the processor time of this process, which no other process can raise by much."""
    text = "curl " + (piece * (size // len(piece) + 1))[:size]
    before = time.process_time()
    scrub(text)
    return time.process_time() - before


def takes_its_time_and_no_more(piece: str) -> bool:
    """Whether eight times the text takes about eight times as long, not the 64 times of a search that is quadratic.

    What takes less than half a millisecond cannot be measured. At that bound a quadratic search takes seconds for a
    megabyte.
    """
    return seconds_for(piece, 50_000) < 24 * max(seconds_for(piece, 6_250), 0.0005)


@for_each("piece", REPEATED)
def test_the_time_for_anything_grows_as_its_length(piece: str) -> None:
    # Only a search that is slow each time is slow by itself.
    assert any(takes_its_time_and_no_more(piece) for _ in range(4))
