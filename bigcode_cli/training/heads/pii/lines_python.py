"""Templates of Python's statements and parts of them; see ``templates``."""

PYTHON = '''\
{key_var} = "{key}"
{upper_key_var} = "{key}"
self.{key_var} = "{key}"
SECRET_KEY = "{key}"
token = os.environ.get("TOKEN", "{key}")
headers = {"Authorization": "Bearer {key}"}
headers["X-Api-Key"] = "{key}"
client = Client(api_key="{key}")
client = Client("{host}", token="{token}")
session.auth = ("{user}", "{password}")
credentials = {"{key_var}": "{key}", "region": "eu-west-1"}
aws = boto3.client("s3", aws_access_key_id="{token}", aws_secret_access_key="{key}")
PRIVATE_KEY = """{pem}"""
{key_var} = "{pem_line}"
{pw_var} = "{password}"
{upper_pw_var} = "{password}"
self.{pw_var} = "{password}"
conn = connect(host="{ip}", user="{user}", password="{password}")
conn = connect("{host}", "{user}", "{password}")
db = {"user": "{user}", "{pw_var}": "{password}", "port": {port}}
DATABASE_URL = "postgresql://{user}:{safe_password}@{host}:{port}/app"
BROKER = "amqp://{user}:{safe_password}@{ip}:{port}//"
url = "https://{user}:{safe_password}@{host}/repo.git"
login(username="{user}", password="{password}")
self.client.login(username="{user}", password="{password}")
if {pw_var} == "{password}":
User.objects.create_user("{user}", "{email}", "{password}")
{upper_ip_var} = "{ip}"
{ip_var} = "{ip}"
self.{ip_var} = "{ip}"
sock.connect(("{ip}", {port}))
ALLOWED_HOSTS = ["{ip}", "localhost"]
servers = ["{ip}", "{ip}", "{ip}"]
url = "http://{ip}:{port}/api"
assert resolve("{host}") == "{ip}"
{"ip": "{ip}", "mac": "52:54:00:{number}"}
subnet = "{ip}/24"
__author__ = "{name}"
__email__ = "{email}"
__maintainer__ = "{name} <{email}>"
author = "{name}"
author="{name}", author_email="{email}",
authors = [("{name}", "{email}"), ("{name}", "{email}")]
user = User(name="{name}", email="{email}")
{"name": "{name}", "email": "{email}"}
copyright = "{year}, {name}"
ADMINS = [("{name}", "{email}")]
send_mail("{email}", subject="{noun}")
FROM = "{email}"
EMAIL_HOST_USER = "{email}"
to = ["{email}", "{email}"]
recipient = "{email}"
assert user.email == "{email}"
{key_var} = os.environ["{upper_key_var}"]
{key_var} = config["{key_var}"]
{key_var} = "{no_key}"
{upper_key_var} = "{no_key}"
client = Client(api_key="{no_key}")
headers = {"Authorization": f"Bearer {{key_var}}"}
headers = {"Authorization": "Bearer {no_key}"}
{key_var} = None
{pw_var} = "{no_password}"
{upper_pw_var} = "{no_password}"
{pw_var} = ""
{pw_var} = getpass.getpass("Password: ")
{pw_var} = settings.{upper_pw_var}
parser.add_argument("--password", help="your password")
connect(user="{user}", password="{no_password}")
if not {pw_var}: raise ValueError("no password")
PASSWORD_FIELD = "password"
url = "postgresql://{user}:{no_password}@localhost/app"
url = "{noun}://user:pass@{host}/{noun}"
__version__ = "{version}"
version = "{version}"
assert version == "{version}"
USER_AGENT = "Mozilla/5.0 Chrome/{version} Safari/537.36"
commit = "{sha}"
revision = "{sha}"
down_revision = "{sha}"
checksum = "{sha256}"
sha256 = "{sha256}"
assert digest == "{md5}"
etag = "{md5}"
id = "{uuid}"
uuid = UUID("{uuid}")
request_id = "{uuid}"
{ip_var} = "{local_ip}"
{upper_ip_var} = "{local_ip}"
server.bind(("{local_ip}", {port}))
url = "http://{local_ip}:{port}/"
email = "{example_email}"
user = User(name="{no_name}", email="{example_email}")
__author__ = "{no_name}"
repo = "git@github.com:acme/{noun}.git"
CERT = """{certificate}"""
@app.route("/{noun}")
token = lexer.next_token()
token_type = "access_token"
parser.add_argument("--host", default="{ip}")
parser.add_argument("--token", default="{key}")
parser.add_argument("--password", default="{password}")
{"username": "{user}", "password": "{password}"},
data = {"username": "{user}", "password": "{password}"}
data={"login": "{user}", "password": "{password}"},
response = self.client.post("/login", {"username": "{user}", "password": "{password}"})
self.user = User.objects.create_user(username="{user}", password="{password}")
user.set_password("{password}")
assert check_password("{password}", hashed)
smtp = SMTP("{host}", {port}, "{user}", "{password}")
Config(host="{host}", port={port}, password="{password}")
ssh.connect("{ip}", username="{user}", password="{password}")
{pw_var} = kwargs.get("password", "{password}")
PASSWORDS = ["{password}", "{password}", "{password}"]
{key_var} = kwargs.get("{key_var}", "{key}")
params = {"{key_var}": "{key}", "format": "json"}
"{key_var}": "{key}",
"{upper_key_var}": "{key}",
{key_var}="{key}",
{pw_var}="{password}",
"{pw_var}": "{password}",
{ip_var}="{ip}",
"{ip_var}": "{ip}",
"email": "{email}",
email="{email}",
"author": "{name}",
name="{name}",
os.environ["AWS_SECRET_ACCESS_KEY"] = "{key}"
jwt.encode(payload, "{key}", algorithm="HS256")
hashed = "{token}"
("{ip}", {port}),
["{name}", "{email}", "{ip}"],
("{name}", "{date}", {number}),
{"address": "{ip}", "version": 4},
{"from": "{email}", "to": ["{email}"]},
network = ip_network("{ip}/32")
log.info("connected to {ip}")
print("written by {name}")
"""{name} wrote this in {year}."""
AUTHORS = """¶{name} <{email}>¶{name} <{email}>¶{name} <{email}>¶"""
{key_var} = "{ident}"
{key_var}="{key_var}",
{key_var} = "{key_var}"
Client({key_var}="{key_var}", region="eu-west-1")
"{key_var}": "test_{key_var}",
{upper_key_var}_HEADER = "X-Auth-Token"
client_id = "{md5}"
"secretName": "{noun}-token-{number}",
engine = create_engine("postgresql://{user}:{safe_password}@localhost/test")
"mysql://{user}:{safe_password}@localhost/{noun}",
send("password", "{password}")
passphrase=b"{password}",
assert not check_password("{password}", hashed)
auth_password="{password}",
{key_var}_name = "{ident}"
"{key_var}": "{ident}",
{key_var}_header = "{ident}"
{key_var}_url = "https://{host}/oauth/{noun}"
{key_var}="{ident}",
type="password",
input_type = "password"
fields = ["username", "password"]
"password": {"type": "string"},
{pw_var} = forms.CharField(widget=PasswordInput)
{pw_var}=None,
{pw_var}: str | None = None
def check_{pw_var}(self, {pw_var}): ...
{key_var} = secrets.token_hex(16)
{key_var} = self._get_{key_var}("{noun}")
if "{key_var}" in kwargs: raise TypeError("{key_var}")
primary_key = "id"
sort_key = "{noun}"
cache_key = "{noun}:{number}"
city = "{title}"
title = "{title}"
"name": "{title}",
label = _("{title}")
name = "{noun}"
author = get_author(commit)
oid = "1.2.840.{number}.{number}"
release = (1, 2, {number})
"{uuid}": {"state": "done"},
name="{uuid}",
color = "{sha}"[:6]
assert block_hash == "{sha256}"
fingerprint = "{md5}"
HELD OUT
os.environ["{upper_key_var}"] = "{key}"
{key_var}: str = "{key}"
requests.get(url, params={"key": "{key}"})
openai.api_key = "{token}"
hmac.new(b"{key}", body, "sha256")
{pw_var}: str = "{password}"
auth=HTTPBasicAuth("{user}", "{password}"),
smtp.login("{email}", "{password}")
engine = create_engine("mysql://{user}:{safe_password}@{ip}/app")
monkeypatch.setenv("{upper_pw_var}", "{password}")
ping("{ip}")
requests.get("https://{ip}/status", verify=False)
nodes = {"a": "{ip}", "b": "{ip}"}
__credits__ = ["{name}", "{name}"]
owner = Person("{name}")
assert row["author"] == "{name}"
msg["From"] = "{name} <{email}>"
notify("{email}")
monkeypatch.setenv("{upper_key_var}", "{no_key}")
driver_version = "{version}"
assert repo.head == "{sha}"
trace_id = "{uuid}"
proxy = "socks5://{local_ip}:{port}"
mail.send(to="{example_email}")
assert login("{user}", "{password}").ok
fixture = {"user": "{user}", "pass": "{password}", "ip": "{ip}"}
{pw_var} = "{password}".encode()
Vault(url, "{key}").open()
{key_var} = b"{key}"
HOSTS = {"{ip}": "{noun}", "{ip}": "{noun}"}
writer.writerow(["{name}", "{email}"])
raise Blocked("{ip}")
speaker = "{name}"
"reviewer": "{name}",
{key_var}_type = "{ident}"
state = "{title}"
blob = repo["{sha}"]
'''
