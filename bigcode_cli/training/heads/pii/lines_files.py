"""Templates of the lines of other files than Python's; see ``templates``."""

YAML = """\
{key_var}: {key}
{key_var}: "{key}"
{upper_key_var}: {key}
{pw_var}: {password}
{pw_var}: "{password}"
POSTGRES_PASSWORD: {password}
{ip_var}: {ip}
{ip_var}: "{ip}"
author: {name}
email: {email}
maintainer: {name} <{email}>
contact: {email}
url: redis://:{safe_password}@{host}:{port}/0
{key_var}: {no_key}
{key_var}: ${{upper_key_var}}
{pw_var}: {no_password}
{pw_var}: ${{upper_pw_var}}
{ip_var}: {local_ip}
version: {version}
id: {uuid}
commit: {sha}
sha256: {sha256}
email: {example_email}
author: {no_name}
image: registry/{noun}@sha256:{sha256}
authors: [{name}, {name}]
- name: {name}¶  email: {email}
hosts:¶  - {ip}¶  - {ip}
auth: {username: {user}, password: {password}}
env:¶  {upper_key_var}: {key}¶  {upper_pw_var}: {password}
title: {title}
{key_var}: {ident}
HELD OUT
private_key: {pem_line}
secret: '{key}'
password: '{password}'
owner: '{name}'
dns: ['{ip}', '{ip}']
support: '{email}'
checksum: '{md5}'
secretName: {noun}-secret
"""

JSON = """\
"{key_var}": "{key}",
"apiKey": "{key}",
"clientSecret": "{key}",
"private_key": "{pem_line}",
"{pw_var}": "{password}",
"dbPassword": "{password}",
"{ip_var}": "{ip}",
"ipAddress": "{ip}",
"author": "{name} <{email}>",
"author": "{name}",
"name": "{name}",
"email": "{email}",
"url": "mongodb://{user}:{safe_password}@{host}:{port}",
"{key_var}": "{no_key}",
"{pw_var}": "{no_password}",
"{ip_var}": "{local_ip}",
"version": "{version}",
"id": "{uuid}",
"integrity": "{integrity}",
"gitHead": "{sha}",
"md5": "{md5}",
"email": "{example_email}",
"author": "{no_name}",
"maintainers": [{"name": "{name}", "email": "{email}"}],
"hosts": ["{ip}", "{ip}"],
"auth": {"user": "{user}", "password": "{password}"},
"title": "{title}",
"{key_var}": "{ident}",
HELD OUT
"accessToken": "{key}",
"adminPassword": "{password}",
"host": "{ip}:{port}",
"contributors": ["{name} <{email}>", "{name}"],
"requestId": "{uuid}",
"resolved": "https://{host}/{noun}#{sha}",
"""

SHELL = """\
export {upper_key_var}={key}
export {upper_key_var}="{key}"
{upper_key_var}={key}
export {upper_pw_var}={password}
{upper_pw_var}='{password}'
{upper_pw_var}="{password}"
curl -H "Authorization: token {key}" https://{host}/
curl -u {user}:{safe_password} https://{host}/{noun}
mysql -h {ip} -u {user} -p'{password}' app
sshpass -p '{password}' ssh {user}@{ip}
ssh {user}@{ip} uptime
{upper_ip_var}={ip}
ping -c 1 {ip}
git config user.name "{name}"
git config user.email {email}
git config --global user.email "{email}"
mail -s "{noun}" {email} < log
docker login -u {user} -p {password} {host}
psql postgres://{user}:{safe_password}@{ip}:{port}/app
export {upper_key_var}=${{upper_key_var}:-}
export {upper_key_var}={no_key}
export {upper_pw_var}={no_password}
read -s -p "Password: " {upper_pw_var}
curl http://{local_ip}:{port}/
{upper_ip_var}={local_ip}
VERSION={version}
git checkout {sha}
echo "{sha256}  {noun}.tar.gz" | sha256sum -c
git config user.email {example_email}
HELD OUT
twine upload -u {user} -p {password} dist/*
gh auth login --with-token <<< {token}
redis-cli -h {ip} -a {password}
scp {noun}.zip {user}@{ip}:/tmp
GIT_AUTHOR_NAME="{name}" GIT_AUTHOR_EMAIL="{email}"
wget https://{host}/{version}/{noun}.zip
"""

SETTINGS = """\
{key_var} = "{key}"
{key_var} = {key}
{pw_var} = "{password}"
{pw_var} = {password}
{ip_var} = "{ip}"
{ip_var} = {ip}
authors = ["{name} <{email}>"]
author = {name}
author_email = {email}
maintainer = "{name}"
url = postgresql://{user}:{safe_password}@{ip}/app
{key_var} = "{no_key}"
{pw_var} = {no_password}
{ip_var} = {local_ip}
version = "{version}"
rev = "{sha}"
hash = "sha256:{sha256}"
author_email = {example_email}
author = {no_name}
HELD OUT
secret = {key}
pass = {password}
peers = {ip}, {ip}
contact = "{name}, {email}"
build = {version}
"""

SCRIPT = """\
const {key_var} = "{key}";
const apiKey = '{key}';
headers: { Authorization: 'Bearer {key}' },
const {pw_var} = '{password}';
const db = { user: '{user}', password: '{password}' };
const {ip_var} = '{ip}';
const url = 'http://{ip}:{port}/';
const author = '{name}';
const user = { name: "{name}", email: "{email}" };
const to = '{email}';
const uri = 'mongodb://{user}:{safe_password}@{host}/app';
const apiKey = process.env.{upper_key_var};
const apiKey = '{no_key}';
const password = '{no_password}';
const host = '{local_ip}';
const version = '{version}';
const id = '{uuid}';
const email = '{example_email}';
HELD OUT
let token = "{key}";
login('{user}', '{password}');
expect(user.email).toBe('{email}');
const peers = ['{ip}', '{ip}'];
const owner = { fullName: '{name}' };
const etag = '{md5}';
"""

PROSE = """\
Contact: {name} <{email}>
Written by {name}.
* {name} ({email})
* {name}
Thanks to {name}, {name} and {name} for their help.
Please write to {email}.
Connect to `{ip}` on port {port}.
Use the token `{key}`.
Log in as `{user}` with the password `{password}`.
`curl -u {user}:{safe_password} https://{host}/`
Set `{upper_key_var}={no_key}`.
Open http://{local_ip}:{port}/ in your browser.
Version {version} fixes this.
Fixed in {sha}.
Write to {example_email}.
Based on the {no_name} method.
{name} <{email}>
- {name}, {year}
- {mention} fixed the {noun}
{title} is supported as well.
* {date}: {name} rewrote the {noun}.
Copyright (c) {year} {name}
HELD OUT
Maintainers: {name}, {name}
- fixed a bug in the {noun}, by {name}
The test machine is {ip}.
The default login is {user} / {password}.
Your key looks like `{no_key}`.
"""
