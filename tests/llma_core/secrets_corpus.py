"""Texts that name a secret and hold none, and texts that hold one: code, configuration, logs, commands, prose."""

from __future__ import annotations

from itertools import product

__all__ = ["NEGATIVES", "POSITIVES"]

_WRITTEN = r"""
api.example.com:5432:orders:ada:<password>
db:5432:orchard:ada:${PGPASSWORD}
db:5432:orchard:ada:$PGPASSWORD1
*:*:*:*:*
*:*:*:ada:your_password
hostname:port:database:username:password
2026-03-02:54:32:10:ada1
src/app.py:5432:17:error:unused-import1
app.py:5432:17:error:unused-import1
0.0.0.0:5432->5432/tcp
127.0.0.1:5432:5432
postgres:5432:5432:rw:shared1
image:5432:latest:ada:x
fe80:5432:0:0:1a2b3c
host:1234:orders:ada:h4nter22
redis-cli -a "$REDIS_PASSWORD1"
AUTH LOGIN
AUTH PLAIN
250-AUTH LOGIN PLAIN XOAUTH2
the AUTH token1 is missing
set AUTH header2 first
AUTH <password>
AUTH $REDIS_PASS1
AUTH_TOKEN_2 AUTH required4
sqlplus /nolog
sqlplus / as sysdba
sqlplus /@orcl
sqlplus scott/$PASS1@orcl
sqlplus scott/<password>@orcl
sqlplus "$DB_USER/$DB_PASSWORD@$DB_TNS"
sqlplus @script1.sql
sqlplus -s ada@orcl
see sqlplus docs/reference1
vault login -method=oidc
vault login -method=github1
vault login $VAULT_TOKEN1
vault login <token>
vault login "$TOKEN2"
vault login token=$TOKEN1
run vault login before deploy
new PDO($dsn, $user, $password);
new PDO($dsn, 'ada', getenv('DB_PASSWORD1'));
new PDO("mysql:host=h", "ada", "");
new PDO('sqlite:/srv/orchard1.db')
new PDO('mysql:host=h', 'username', 'password')
new PDO($dsn, $user, $password, ['charset1' => 'utf8mb4']);
mysqli_connect($host, $user, $password, 'orchard1')
mysqli_connect("localhost", "my_user", "my_password", "my_db")
new mysqli("localhost", "ada", $password, "orchard1")
pymysql.connect("localhost", "ada", password1, "orchard1")
DriverManager.getConnection(url, user, System.getenv("PASSWORD1"))
DriverManager.getConnection("jdbc:sqlite:orchard1.db")
pool.getConnection("orchard1", "read2")
new NetworkCredential(user, password1)
new NetworkCredential("ada", Environment.Password1)
new UsernamePasswordCredentials("ada", password1)
smtp.PlainAuth("", user, password1, host)
smtp.PlainAuth("", "ada", os.Getenv("SMTP_PASS1"), "h")
ldap_bind($c, $dn1, $password1)
ldap_bind($c)
conn.simple_bind_s(who1, cred1)
ftp_login($c, $user1, $pass1)
oci_connect($user1, $pass1, 'h/orchard1')
oci_connect('ada', $pass1, '//h/orchard1')
imap_open($box, $user, $pass1)
DBI->connect($dsn, $user, $pass1)
twine upload -u ada dist/orchard-1.0
twine upload -u ada -p $TWINE_PASSWORD1
nxc smb h -u users1.txt -p passwords1.txt --dry
echo "localhost:5432:*:ada:<password>" > ~/.pgpass
echo "$HOST:5432:$DB:$USER:$PASSWORD" > ~/.pgpass
#hostname:port:database:username:password in .pgpass
.pgpass:12:5: see line 12:30:a:b:c
psk=<your psk>
psk="${WIFI_PSK}"
psk=***
TLS_PSK_WITH_AES_128_CBC_SHA
psk = load_psk()
upsk=abc123
rabbitmqctl add_user ada $PASS
rabbitmqctl add_user ada "$RABBIT_PASSWORD"
rabbitmqctl add_user <name> <password>
rabbitmqctl add_user ada ***
rabbitmqctl set_user_tags ada administrator1
net user ada * /add
net user ada /active:yes
net user ada %PASS1% /add
net use Z: \\srv\share1 /user:ada
our net user growth was 15%
mysqladmin -u root password $NEW
mysqladmin password --help
nmcli dev wifi connect home1 password "$WIFI"
useradd -p $HASH1 ada
useradd -m -s /bin/bash ada1
security find-generic-password -a ada1 -w
mosquitto_pub -h h -p 1883 -t t -m x
7z x a.7z -p$PASS
smtp.login("ada", os.environ["SMTP_PASSWORD1"])
smtp.login("you@example.com", "<password>")
smtp.login("you@example.com", "your-password")
this.auth.login('local', 'strategy')
api.login(request, "email")
auth=("user", "pass")
PASSWORD = getpass.getpass()
jwt.verify(token, "RS256")
jwt.sign(payload, privateKey1, { algorithm: "RS256" })
jwt.sign({ id: 1 }, process.env.JWT_SECRET1)
jwt.decode(token, "public1.pem")
a user is identified by 'id1'
CREATE USER bob IDENTIFIED BY '${PASSWORD1}';
ok ? "PASS" : "FAIL"
echo $rc && echo "PASS" || echo "FAIL2"
**Tests pass**: `cmd run 12`
**Pass**: `pytest -q 3`
"$PWD:/work"
-v "$PWD:/workspace1"
-v $PWD:/app2
${PWD}:/work
'password' => 'required|string|min:8'
"password" => "nullable|confirmed|min:12"
password: 'required|min:8|max:64'
"password=" + password
'&password=' + encodeURIComponent(pw)
"token=" . $token
publicKeyToken="b03f5f7f11d50a3a"
PublicKeyToken=b77a5c561934e089, processorArchitecture=MSIL
rootIpnsPrivateKey: Uint8Array
secretKey: Uint8Array,
signingKey: Ed25519PrivateKey;
${POSTGRES_PASSWORD:?database password 1 required}
POSTGRES_PASSWORD: ${POSTGRES_PASSWORD:?set it 1st}
${DB_PASSWORD:+--password}
const token = authHeader?.substring(7)
const token = authHeader!.substring(7);
const token = req.headers.authorization?.split(' ')[1]
token = parts.get(1)
let apiKey = options?.apiKey1
`Password:` the one you set in step 2!
- `DB password:` the one from step 2!
`token:` it is abc123def456xyz
password: z.string().min(8)
password: Joi.string().min(8).required()
password := r.FormValue("password")
password = secrets.token_urlsafe(32)
password = a + b1
if (password === confirm2)
password: "string" | null
token: string | undefined
type Props = { token?: string; password?: string }
passwordHash: $2b$10$
api_key = config["api_key"]
sql = "UPDATE users SET password='" + pw1 + "' WHERE id=1"
"SELECT * FROM u WHERE password='" . $pw . "'"
f"password={password!r}"
f"{user}:{password}"
`token ${token1} expired`
print(f"token: {token[:8]}")
console.log('password:', password1)
password=os.environ["DB_PASS1"]
"password": os.environ.get("X1")
data-key="row-12-item-34abc"
cache_key = "user:12:profile:v2"
primary_key = "id12345678901234567"
token = lexer.next_token2()
tokens: 12345
"max_tokens": 4096
token_usage: 12345678
<input type="password" name="password" id="password1" />
<label for="password">Password1</label>
--password-stdin
--password-file /run/secrets/db1
PASSWORD_FILE=/run/secrets/db_password
password_file: /run/secrets/db_password
key={item.id1}
key={`row-${i}`}
onKeyDown: handleKey2
keyCode: 13
AUTH_URL=https://example.com/oauth2/authorize
auth_uri: "https://accounts.google.com/o/oauth2/auth"
token_uri: "https://oauth2.googleapis.com/token"
SECRET_NAME=prod/db/main1
secretKeyRef: {name: db-secret1, key: password}
password: <%= ENV["DB_PASSWORD"] %>
password: {{ .Values.db.password }}
password: "{{ lookup('env', 'X1') }}"
password: ((db_password1))
password = var.db_password1
password = data.aws_ssm_parameter.db.value
password = random_password.db.result
password = "${var.db_password1}"
api_key: !vault |
api_key: !!str
password:\s*(\S+)
r"password\s*=\s*(\S+)"
/password=([^&]+)/
s/password=.*/password=xxx1/
grep -rn "password" src1/
grep -E 'token|secret' file2
PASSED: 12, FAILED: 3
tests passed: 123456
PASS: 12345
--- PASS: TestLogin2 (0.00s)
pass: 12345678
Key: Value2
key: value12345
Mot de passe : obligatoire
Passwort: mindestens 8 Zeichen
Contraseña: mínimo 8 caracteres
The password must be at least 8 characters
Password: at least 12 characters1
your password is hunter-like? no: it's fine
token is valid for 3600 seconds
secret is stored in vault1
the key is user_id2
author: jane99smith
authors = ["Jane <jane1@x.org>"]
monkey = "banana1234567890"
turkey: sandwich12
hotkey: "ctrl+shift+p1"
keyboard_shortcut = "Cmd+K1"
keyword: "async1function"
tokenizer.json: 12345678
bypass = "abc12345"
compass: "north-east-12"
passenger_id = "abc12345678"
passive: true1
passthrough: "abc12345"
encryption: aes-256-gcm
ssh-keygen -t ed25519 -f key1
key_file = "/etc/ssl/key1.pem"
SSL_KEY=/etc/ssl/private/server1.key
integrity sha512-7GZlN9dxK9ITjOEHFdTkV8S2qbbEW
token_type_ids = [0, 1]
pad_token_id=50256
"eos_token": "<|endoftext|>"
CancellationToken token2
cancellationToken: cts.Token
csrf_token() }}
{% csrf_token %}
@Value("${jwt.secret}")
secret: ${JWT_SECRET}
secret = Rails.application.credentials.secret_key_base
SecretStr("x1")
password: SecretStr = Field(min_length=8)
password: Annotated[str, Len(8)]
password: Mapped[str] = mapped_column(String(128))
password = models.CharField(max_length=128)
password = serializers.CharField(write_only=True)
password VARCHAR(255) NOT NULL
`password` varchar(255) NOT NULL
password_digest: string
validates :password, length: { minimum: 8 }
has_secure_password :auth1
$table->string('password', 100)->nullable();
$request->validate(['password' => ['required', 'min:8']])
"password": ["This field is required1."]
error: password authentication failed for user "bob1"
FATAL: password authentication failed for user "postgres2"
invalid token: unexpected '}' at line 12
SyntaxError: Unexpected token < in JSON at position 0
Unexpected token: 'x1'
KeyError: 'user_id2'
key 'abc12345' not found
Duplicate key value1
foreign key (user_id1) references users(id)
secrets: inherit
secrets: [db1, api2]
GITHUB_TOKEN: ${{ github.token }}
permissions: id-token: write
id-token: write
with: token: ${{ secrets.X1 }}
auth: true1
auth: required2
auth_type: basic1
authMethod: "oauth2-pkce"
Authorization header is missing1
Basic authentication with user1
Basic usage: run it
The Basic plan costs 10USD/month
Basic QWxhZGRpbg
cookie: session2
Cookie: <cookie>
Set-Cookie: session=; Path=/
Cookie: theme=dark; lang=en
session_id=3f2a8c1e-9a55-4a8e-8b39-3a8c2ce7f3aa
sessionId: "0b7f4c1e-9a55-4a8e-8b39-3a8c2ce7f3aa"
name: DB_HOST
name: DB_PASSWORD
mysql -p
mysql -u root -p mydb
mysql -h host -P3306 db
ssh -p2222 host
mkdir -pv dir1
cp -pR a b
docker run -p8080:80 nginx
nvapi-key
nvapi-your-key-here
LTAIexample
OSSAccessKeyId=<id>
"name": "password", "value": ""
"name": "password", "value": "string"
name: password, in: formData, type: string
name="token" value="{{ csrf_token }}"
Cookie: _ga=GA1.2.1234567890.1234567890; lang=en
Cookie: consent=2026-01-02T03:04:05Z
Set-Cookie: session=<session-id-here>; Path=/
"cookie": "session=${SESSION_ID}"
document.cookie = name + "=" + value1
cookie_name=abc123def456abc123def456abc1
- name: DB_PASSWORD\n  valueFrom:\n    secretKeyRef: {name: db1}
- name: DB_PASSWORD\n  value: $(DB_PASSWORD_1)
- name: DB_PASSWORD\n  value: "${DB_PASSWORD_1}"
- name: TOKEN_LIMIT\n  value: "4096"
- name: MONKEY\n  value: banana1234567
{"name": "max_tokens", "value": "4096"}
{"key": "primary", "value": "abc123def456"}
mysql -u root -p$MYSQL_PWD shop1
mysql -u root -p"${MYSQL_PWD}" shop1
mysql -u root -p<password> shop1
mysql --protocol=tcp -pager
sshpass -p "$PASS1" ssh bob@host
sshpass -f file1 ssh
redis-cli -a $REDIS_PASS ping1
openssl rsa -passin env:KEY_PASS1
openssl rsa -passin file:/run/secrets/k1
docker login -u bob --password-stdin1
docker login -p $TOKEN1 -u bob
ldapsearch -x -D cn=admin -W -b dc=x1
mkdir -p login1/x && echo login -p
"AWS::IAM::AccessKey": "72c2d9dd90025459"
"Alexa::Some::AppAuthorization": "72c2d9dd90025459",
"ARN": "arn:aws:secretsmanager:eu-west-1:123456789012:secret:orchard-a1b2c3"
[[ "$PWD" == "$HOME/work1/"* ]]
for word in ("pass", "import os1", "x = y"):
GIT_ASKPASS: 'echo1',
SSH_ASKPASS=/usr/bin/ksshaskpass1
"user= passphrase= password= host= "
"--change-token 12ab345-67cd-890b"
"LockToken":"0bc01e21-03c9-4b98-9433-6229cbf1ef1c",
password = ":****"
"apiKey": "={{$credentials.apiKey}}"
"password": "'{{ password1 }}'"
client_token = "Orchard-StackSet-{operation_1}"
hashed_password = "md5{0}".format(digest1)
"csrfToken": "VUe6...m5Nl7y"
dependencies = [("auth", "0001_initial")]
("auth", "0012_alter_user_first_name_max_length"),
errors = ["Bad password", "password change canceled1"]
lookup("password", "/dev/null length=16 chars=digits")
fields = ("username", "usable_password", "password1", "password2")
@sensitive_variables("password1", "password2")
PROVIDER_TOKEN = "provider"
STACK_TAGS_TOKEN = "stackTags"
access_token = "oAuth2Token"
{ private_key: x509_private_key }
oauth2: additionalOAuth2Options
authenticationProvider: oauth2Authenticator
if update_secret == "always":
if (typeof this.masterKey === "function") {
if (body.forceChangePassword === "forceChangePasswordNextSignIn") {
update_password="on_create"
GPG_KEY=E3FF2839C048B25C084DEBE9B26995E310250568
CreateSecret = 0x00000020
Next Page Token: ${nextPageToken}1
SERVER_PRIVATE_KEY: RSAPrivateKey = generate(2048)
--private-key @AuthKey1.p8
apiKey: "my-n8n-api-key"
password: "not-needed"
const url = `${link1}&newPassword=NEW_PASSWORD_HERE`
mongodb://reader:reader_password@db1/x
[user[:pass]]@host1
DB_PASSWORD: !var
"name": "acltoken://service_token2"
RequestToken: 10c10335-276a-33d3-5c07-018b684c3d26
url = f"{root1}?token=latest"
headers = {"Authorization": "Token token=%s" % key1}
the login and password via the API1
{"Key": "Password", "Value": share_password}
SecretSharing = "secret_sharing"
echo "$TOKEN1" | docker login --password-stdin
echo hello1 | grep -c password
echo hello12 | tee passwd.txt
cat token1.txt | gh auth login --with-token
docker run -p 8080:80 login1
curl -u "$USER1:$PASS1" https://x.example
curl -u bob https://x.example/a1:b2
zip -r out1.zip dist
kubectl create secret generic db1 --from-file=password=./pw1
kubectl create secret tls x1 --cert=c --key=k
kind: SecretProviderClass\ndata:\n  mode: readwrite1
kind: ConfigMap\ndata:\n  mode: readwrite1
variable "db_password" {\n  type = string\n}
variable "db_password" {\n  default = ""\n}
bcrypt2 is the password hash
sha256 is a password algorithm1
Uint8Array is the password type
set password for user1
password:\n  required: true1
password:\n  type: string1
token:\n  description1
password = (\n    getpass1()\n)
getPassword("user1")
validatePassword("Must have 8 characters")
auth("posts", "edit")
requireAuth("admin", "owner1")
| token | string | 12 |
| password | the user's password 1 |
"""
_NAMES = ("password", "dbPassword", "DB_PASSWORD", "apiKey", "client_secret", "accessToken", "authToken", "privateKey")
# What stands in code where a value may stand: types, expressions, rules.
_CODE = (
    *(
        "{}: string;",
        "{}: Uint8Array",
        "{}?: string | null",
        "const {} = config?.value1",
        "{} = settings.value_1",
        "{}=$VALUE_1",
    ),
    *("let {} = await read(path1)", "{} = os.environ['VALUE_1']", '"{}=" + value1', "'{}': 'required|string|min:8'"),
    *(
        "`{}:` the one from step 2",
        "ok ? '{}' : 'FAILED1'",
        "{}: z.string().min(8)",
        "${{{}:?not set1}}",
        "{}: <your-value-1>",
    ),
    *(
        "{} == other1",
        "{} = row->value1",
        "{}: {{{{ .Values.value1 }}}}",
        "{}: ${{{{ secrets.VALUE_1 }}}}",
        "print('{}:', value1)",
    ),
)
NEGATIVES = tuple(line for line in _WRITTEN.splitlines() if line) + tuple(
    code.format(name) for code, name in product(_CODE, _NAMES)
)
"""Texts that have to stay as they are."""

# Assembled at run time, so that secret scanners find none in this repository.
_MIX = "a1B2c3D4e5F6g7H8"
_PASSWORDS = (
    "hunter2!",
    "Monkey2024!",
    "Passw0rd",
    "Tr0ub4dor&3",
    "s3cr3t-K3y",
    "correcthorse9",
    "Whiskey!9x",
    "pa(ss1",
)
_PASSWORD_PLACES = (
    *(
        '"password": "{}"',
        "'password': '{}'",
        'password = "{}"',
        "DB_PASSWORD='{}'",
        'export PGPASSWORD="{}"',
        "pwd: '{}'",
    ),
    *("'password' => '{}',", 'passwd := "{}"', "<password>{}</password>", '"dbPassword":"{}"', "password: str = '{}'"),
    *(
        "os.environ['DB_PASSWORD'] = '{}'",
        "connect(user, password='{}')",
        "--password='{}'",
        '{{"auth": {{"pass": "{}"}}}}',
    ),
    *('"{{\\"password\\": \\"{}\\"}}"', "CREATE USER x WITH PASSWORD '{}'", "the password: '{}'", '$password = "{}";'),
)
_SECRETS = (
    *(
        "nvapi-" + _MIX * 4,
        "LTAI" + "5t" + _MIX + "Qx",
        "ghp_" + "a1B2" * 9,
        "sk-ant-" + "api03-" + _MIX * 5,
        "npm_" + "a1B2" * 9,
    ),
    *(
        "AKIA" + "ABCD1234EFGH5678",
        "glpat-" + _MIX + "_x9Y",
        "xoxb-" + "123456789012-" + _MIX,
        "hf_" + "AbCdEfGhIj" * 3 + "KLMN",
    ),
)
_PLACES = (
    *(
        "{}",
        "key {} in a sentence",
        "x = '{}'",
        "https://x/?OSSAccessKeyId={}&Expires=1",
        "TOKEN={} make",
        "\n{}\n",
        '{{"a": "{}"}}',
    ),
    *(
        "- {}",
        "| {} |",
        "`{}`",
        "curl -H 'X-Key: {}' http://x",
        "export A={}",
        "{};",
        "({})",
        "Authorization: Bearer {}",
        "a,{},b",
    ),
)
_OTHERS = (
    ("https://x.example/o?Expires=1&Signature={}&x=1", _MIX * 2),
    ("https://x.example/login?user=a&password={}", "swordfish"),
    ("https://x.example/login?pwd={}&user=a", "Hockey9"),
    ("${{DB_PASSWORD:-{}}}", "hunter2x"),
    # The cookie of a session.
    ("Cookie: theme=dark; session={}; lang=en", _MIX),
    ("< Set-Cookie: connect.sid={}; Path=/; HttpOnly", "s%3A" + _MIX * 2 + ".x/+="),
    ("Cookie: JSESSIONID={}", "8F4E2A9C0B1D3E5F7A6B4C2D"),
    ("set-cookie: .AspNetCore.Identity.Application={}; secure", "CfDJ8" + _MIX * 3),
    ('"cookie": "csrftoken={}; x=1"', _MIX * 2),
    ("document.cookie = 'auth_token={}'", _MIX),
    ("headers['Cookie'] = 'prefs={}'", _MIX * 2),
    ("curl --cookie sid={} https://x.example", _MIX),
    ("curl -s -b 'sid={}' https://x.example", _MIX),
    # A name and a value that stand in members of their own.
    ("- name: DB_PASSWORD\n  value: {}", "swordfish"),
    ('    - name: "API_TOKEN"\n      value: "{}"', "tok-" + _MIX),
    ('{{"name": "DB_PASSWORD", "value": "{}"}}', "hunter2x"),
    ('{{"key":"client_secret","value":"{}"}}', _MIX),
    ('name  = "MYSQL_ROOT_PASSWORD"\n  value = "{}"', "hunter2x"),
    ('<property name="connection.password" value="{}"/>', "hunter2x"),
    ('<add key="ApiKey" value="{}" />', _MIX),
    # A value in another line than its name, and before it.
    ("password:\n  {}", "hunter2x"),
    ('"password":\n    "{}"', "swordfish"),
    ('password = (\n    "{}"\n)', "swordfish"),
    ("password: |\n  {}\n", "swordfish"),
    ("api_key: >-\n  {}\n", _MIX),
    ("tool --password \\\n  {} x", "hunter2x"),
    ("{} is my password", "hunter2x"),
    ("use {} as the password", "hunter2!"),
    ("the password for the db is {}", "hunter2x"),
    ('{{"value": "{}", "name": "DB_PASSWORD"}}', "swordfish"),
    ("- value: {}\n  name: DB_PASSWORD", "hunter2x"),
    ("- name: DB_PASSWORD\n  # of the shop\n  value: {}", "swordfish"),
    ('{{"ParameterKey": "DBPassword", "ParameterValue": "{}"}}', "swordfish"),
    ('<input name="password" type="password" value="{}"/>', "swordfish"),
    ('<setting name="DbPassword"><value>{}</value></setting>', "swordfish"),
    ("<key>password</key>\n<string>{}</string>", "swordfish"),
    ('Content-Disposition: form-data; name="password"\r\n\r\n{}\r\n', "swordfish"),
    ('variable "db_password" {{\n  type = string\n  default = "{}"\n}}', "swordfish"),
    # What a command reads.
    ("echo {} | docker login -u bob --password-stdin", "swordfish"),
    ("echo -n '{}' | docker login -u bob --password-stdin x.example", "hunter2x"),
    ("printf '%s' '{}' | helm registry login --password-stdin", "swordfish"),
    ("docker login -u bob --password-stdin <<< '{}'", "swordfish"),
    ("docker login -u bob --password-stdin <<EOF\n{}\nEOF", "swordfish"),
    ("echo {} | sudo -S ls", "swordfish"),
    ("echo 'bob:{}' | sudo chpasswd", "swordfish"),
    ("echo {} | gh auth login --with-token", _MIX),
    ("gh secret set DB_PASSWORD <<< {}", "swordfish"),
    ("printf '{}' | docker secret create db_password -", "swordfish"),
    # More arguments.
    ("docker login -p{} -u bob", "swordfish"),
    ("skopeo copy --src-creds=bob:{} a b", "swordfish"),
    ("curl -sSu bob:{} https://x.example", "swordfish"),
    ("curl --proxy-user bob:{} https://x.example", "swordfish"),
    ("http -a bob:{} x.example", "swordfish"),
    ("sshpass -p \\\n  {} ssh bob@host", "swordfish"),
    ("htpasswd -bc file bob {}", "swordfish"),
    ("openssl enc -aes-256-cbc -k {} -in x", "swordfish"),
    ("openssl pkcs12 -export -password pass:{} -out x", "swordfish"),
    ("sqlcmd -S h -U sa -P {} -Q x", "swordfish"),
    ("ssh-keygen -t ed25519 -N '{}' -f k", "swordfish"),
    ("kubectl create secret generic x --from-literal=admin={}", "swordfish"),
    ("kubectl create secret generic x --from-literal=password={}", "swordfish"),
    ("aws ssm put-parameter --type SecureString --name /x --value {}", "swordfish"),
    ("aws configure set aws_secret_access_key {}", _MIX * 2),
    ("npm config set //registry.example/:_authToken {}", _MIX),
    ("ConvertTo-SecureString '{}' -AsPlainText -Force", "swordfish"),
    ("zip -e -P {} out.zip dist", "swordfish"),
    ("unzip -P {} out.zip", "swordfish"),
    ("aws secretsmanager create-secret --name x --secret-string '{}'", "swordfish"),
    ("terraform apply -var db_password={}", "swordfish"),
    ("psql 'host=x user=u password={} dbname=d'", "swordfish"),
    ("mongodump --username bob --password {} x", "swordfish"),
    ("setx DB_PASSWORD {}", "swordfish"),
    ("ENV DB_PASSWORD {}", "swordfish"),
    ("requirepass {}", "swordfish"),
    ("keytool -storepass {} -list", "hunter2x"),
    # Code, and other notations of headers.
    ("requests.get(url, auth=('bob', '{}'))", "swordfish"),
    ('request.SetBasicAuth("bob", "{}")', "swordfish"),
    ('user.setPassword("{}")', "hunter2x"),
    ('os.Setenv("DB_PASSWORD", "{}")', "swordfish"),
    ("page.fill('#password', '{}')", "swordfish"),
    ('let password: &str = "{}";', "swordfish"),
    ('var password string = "{}"', "swordfish"),
    ('password <- "{}"', "swordfish"),
    ("db_pw = '{}'", "swordfish"),
    ("| password | {} |", "hunter2x"),
    ("AWS Secret Access Key [None]: {}", _MIX * 2),
    ("Authorization: GenieKey {}", _MIX * 2),
    ('"authorization": ["Bearer {}"]', _MIX),
    ('{{"name": "Authorization", "value": "Bearer {}"}}', _MIX),
    ("apiVersion: v1\nkind: Secret\ndata:\n  admin: {}\n", "c3dvcmRmaXNo"),
    ("apiVersion: v1\nstringData:\n  admin: {}\nkind: Secret\n", "swordfish"),
    ('{{"kind": "Secret", "data": {{"admin": "{}"}}}}', "c3dvcmRmaXNo"),
    # The arguments of commands.
    ("mysql -u root -p{} shop", "swordfish"),
    ("mysqldump -h db -uapp -p'{}' shop > x.sql", "pa ss;1"),
    ("mysql -p{}", "hunter2x"),
    ("mariadb-dump --user=app -p{} shop", "hunter2x"),
    ("sshpass -p {} ssh bob@host", "swordfish"),
    ("sshpass -p'{}' ssh bob@host", "hunter2!"),
    ("redis-cli -h cache -a {} ping", "swordfish"),
    ("openssl pkcs12 -in k.p12 -passin pass:{} -nodes", "swordfish"),
    ("openssl rsa -in k -passout 'pass:{}'", "hunter2x"),
    ("docker login -u bob -p {} registry.example", "swordfish"),
    ("helm registry login x.example -u bob -p {}", "hunter2x"),
    ("az login --service-principal -u id -p {} --tenant t", _MIX),
    ("mongosh -u bob -p {} db", "swordfish"),
    ("ldapsearch -x -D cn=admin -w {} -b dc=x", "swordfish"),
    ("smbclient //x/y -U bob%{}", "hunter2x"),
    ("gh secret set DEPLOY --body {}", "hunter2x"),
    ("zip archive -P {} x", "hunter2x"),
    # At a fixed place of a statement or a call.
    ("CREATE USER 'bob'@'%' IDENTIFIED BY '{}';", "swordfish"),
    ("ALTER USER bob\n  IDENTIFIED WITH mysql_native_password BY '{}';", "hunter2x"),
    ('grant all on x.* to bob identified by "{}"', "swordfish"),
    ('jwt.sign({{ id: 5, role: "x" }}, "{}")', "shhhhh"),
    ('jwt.decode(token, b"{}", algorithms=["HS256"])', _MIX),
    ('Config::password = "{}"', "swordfish"),
    # What only its position in a command, a call or a line gives away.
    ("rabbitmqctl add_user ada {}", "hunter2x"),
    ("rabbitmqctl -n rabbit@a add_user 'ada' '{}'", "hunter2x"),
    ("docker exec mq rabbitmqctl change_password ada {} && date", "swordfish"),
    ("net user ada {} /add", "hunter2x"),
    ("net user /add ada {}", "hunter2x"),
    ("net use Z: \\\\srv\\share {} /user:ada", "hunter2x"),
    ("net use \\\\srv\\share /user:ada {}", "hunter2x"),
    ("mysqladmin -u root password {}", "hunter2x"),
    ("mysqladmin -uroot -pOld12345 password {}", "hunter2x"),
    ("nmcli dev wifi connect home password {}", "hunter2x"),
    ('smtp.login("ada@example.com", "{}")', "swordfish"),
    ("server.login('ada', '{}')", "hunter2x"),
    ("imap.login(USER, '{}')", "hunter2x"),
    ('ftp.login(\n    "ada",\n    "{}",\n)', "hunter2x"),
    ("cat ~/.pgpass\ndb.example.com:5432:shop:ada:{}", "swordfish"),
    ("cat > ~/.pgpass <<EOF\n*:*:*:postgres:{}\nEOF", "hunter2x"),
    ('echo "10.0.0.1:6432:shop:ada:{}" >> ~/.pgpass', "hunter2x"),
    ("grep -n . ~/.pgpass\n3:db:5432:shop:ada:{}", "hunter2x"),
    ("echo /var/run/postgresql:5433:shop:ada:{}>~/.pgpass", "hunter2x"),
    # What nothing names: a whole line of .pgpass, a command of Redis, an argument of a command or a call.
    ("db.example.com:5432:shop:ada:{}", "swordfish"),
    ("[db-1]\n10.0.0.1:6432:*:ada:{}\n", "hunter2x"),
    ("*:*:*:postgres:{}", "hunter2x"),
    ("echo 'db:5433:shop:ada:{}' >> $FILE", "hunter2x"),
    ("redis-cli -h cache -a {} ping", "hunter2x"),
    ("AUTH {}", "hunter2x"),
    ("127.0.0.1:6379> AUTH {}\nOK", "hunter2x"),
    ("> AUTH default {}", "hunter2x"),
    ("redis-cli <<EOF\nAUTH {}\nPING\nEOF", "hunter2x"),
    ("sqlplus scott/{}@db:1521/orcl", "tiger"),
    ("sqlplus -s scott/{}@//db:1521/orcl @a.sql", "hunter2x"),
    ('sqlplus scott/"{}"@orcl', "hunter2x"),
    ("sqlplus sys/{} as sysdba", "hunter2x"),
    ("sqlldr userid=scott/{} control=a.ctl", "hunter2x"),
    ("vault login {}", "hvs.h4nter2x"),
    ("vault login -no-print {}", "8f2c1d4e5b6a"),
    ("vault login token={}", "8f2c1d4e5b6a"),
    ("new PDO('mysql:host=localhost;dbname=shop', 'ada', '{}')", "swordfish"),
    ('new \\PDO("mysql:host=db;charset=utf8mb4", "ada", "{}", [])', "hunter2x"),
    ("new PDO($dsn, $user, '{}');", "hunter2x"),
    ("new PDO(\n    'pgsql:host=db',\n    'ada',\n    '{}',\n)", "hunter2x"),
    ("mysqli_connect('localhost', 'ada', '{}', 'shop')", "hunter2x"),
    ('new mysqli("localhost", "ada", "{}", "shop")', "swordfish"),
    ('pymysql.connect("localhost", "ada", "{}", "shop")', "hunter2x"),
    ('MySQLdb.connect("localhost", "ada", "{}", "shop")', "hunter2x"),
    ('DriverManager.getConnection("jdbc:mysql://db/shop", "ada", "{}");', "swordfish"),
    ('DriverManager.getConnection(url, user(), "{}")', "hunter2x"),
    ('new NetworkCredential("ada", "{}")', "hunter2x"),
    ('new UsernamePasswordCredentials("ada", "{}")', "hunter2x"),
    ('smtp.PlainAuth("", "ada", "{}", "mail.example.com")', "hunter2x"),
    ('ldap_bind($ldap, "cn=admin,dc=example", "{}")', "hunter2x"),
    ('conn.simple_bind_s("cn=admin", "{}")', "hunter2x"),
    ('ftp_login($ftp, "ada", "{}")', "hunter2x"),
    ("oci_connect('ada', '{}', '//db/shop')", "hunter2x"),
    ('odbc_connect("shop", "ada", "{}")', "hunter2x"),
    ("imap_open($box, 'ada', '{}')", "hunter2x"),
    ("DBI->connect('DBI:mysql:shop', 'ada', '{}')", "hunter2x"),
    ("twine upload -u ada -p {} dist/*", "hunter2x"),
    ("winexe -U ada%{} //h cmd", "hunter2x"),
    ("cypher-shell -u neo4j -p {}", "hunter2x"),
    ("beeline -u jdbc:hive2://h -n ada -p {}", "hunter2x"),
    # Pre-shared keys.
    ('network={{\n  ssid="home"\n  psk="{}"\n}}', "swordfish"),
    ("  psk={}", "a3f9" * 16),
    ("wifi-sec.psk: {}", "swordfish9"),
    ('{{"ssid": "home", "psk": "{}"}}', "swordfish"),
    ("WIFI_PSK={}", "swordfish"),
    ("wpa-psk {}", "swordfish"),
    ("[Peer]\nPresharedKey = {}", _MIX * 2 + "abcdefghijk="),
    # More commands with the flag of a password.
    ("useradd -m -p {} ada", "hunter2x"),
    ("usermod -p '{}' ada", "$6$abcdefgh$" + _MIX),
    ("cqlsh -u ada -p {} db", "hunter2x"),
    ("mosquitto_pub -u ada -P {} -t t", "hunter2x"),
    ("ipmitool -H h -U ada -P {} power status", "hunter2x"),
    ("bcp t out f -U ada -P {}", "hunter2x"),
    ("7z x a.7z -p{}", "hunter2x"),
    ("security add-generic-password -a ada -s x -w {}", "hunter2x"),
    ("security unlock-keychain -p {} login.keychain", "hunter2x"),
    ("etcdctl --user ada:{} get k", "hunter2x"),
    ("lftp -u ada,{} ftp.example.com", "hunter2x"),
    # Files that are kept in a home folder.
    ("machine x.example login bob password {}", "swordfish9"),
    ("//registry.example/:_authToken={}", _MIX),
    ("DefaultEndpointsProtocol=https;AccountName=x;AccountKey={};EndpointSuffix=core", _MIX * 5 + "abcd=="),
    ("Endpoint=sb://x.example/;SharedAccessKeyName=R;SharedAccessKey={}", _MIX * 2 + "abc="),
)
POSITIVES = (
    *((place.format(secret), secret) for place, secret in product(_PASSWORD_PLACES, _PASSWORDS)),
    *((place.format(secret), secret) for place, secret in product(_PLACES, _SECRETS)),
    *((place.format(secret), secret) for place, secret in _OTHERS),
)
"""Texts with the secret that has to go."""
