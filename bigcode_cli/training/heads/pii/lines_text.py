"""Templates of remarks, docstrings, heads of files and literals; see ``templates``."""

COMMENTS = """\
TODO({handle}): handle the {noun} that is closed twice
TODO({handle}) remove once the {noun} is gone
FIXME({handle}): this breaks for an empty {noun}
XXX({handle}): why is the {noun} needed here?
TODO: ask {name} whether the {noun} can go
Contact {name} <{email}> before changing this
Written by {name}, {year}
Author: {name}
Author: {name} <{email}>
Maintainer: {email}
Copyright (c) {year} {name}
Copyright {year} {name} <{email}>
Based on code by {name} ({email})
Thanks to {name} for the patch
Reported by {name}
reviewed by {given}, {year}
Suggested by {name} and {name}
{name} says that the {noun} must not be shared
Mail {email} if the {noun} fails
bugs to {email}
e.g. {email}
Tested against {ip}
the old server was {ip}, now it is {ip}
Allowed from {ip}/24 only
curl -H "Authorization: Bearer {key}" https://{host}/v{number}
export {upper_key_var}={key}
{key_var} = "{key}"
old token: {token}
password is {password}
login with {user} / {password}
temporary password: {password}
postgres://{user}:{safe_password}@{ip}:{port}/app
NOTE({handle}): the {noun} is read twice
NOTE({handle}): this is needed for the {noun}, see bug {number}
TODO: remove the {noun}
NOTE: the {noun} is read twice
TODO(#{number}): remove
FIXME: {noun} leaks
See {uuid}
fixed in {sha}
since commit {sha}
sha256: {sha256}
md5 {md5}
requires version {version} or newer
upgraded from {version} to {version}
listens on {local_ip}:{port}
see RFC {number}
Copyright (c) {year} {no_name}
Licensed to {no_name}
e.g. {example_email}
send mail to {example_email}
set {upper_key_var}={no_key} first
the password is read from the environment
{no_name} method
uses the {no_name} algorithm
git@github.com:acme/{noun}.git
https://{host}/{noun}?id={uuid}
As {name} pointed out, the {noun} may be empty here
(idea of {name}, see the list archive)
-- {name}, {date}
Modified by {name} on {date}: close the {noun}
{date} {name} <{email}> - rewrite the {noun}
{name} and {name} found this bug in version {version}
The algorithm was described to me by {name}
This {noun} is after a design by {name} and {name}
Adapted from {name}'s {noun}
borrowed from {name}, {year}
Authors:¶  {name} <{email}>¶  {name} <{email}>
Contributors:¶* {name}¶* {name}¶* {name}
Author: {name}¶Email: {email}¶Date: {date}
:author: {name}
{ip} - - [{date}] "GET /{noun} HTTP/1.1" 200 {number}
{date} connection from {ip} port {number}
{ip}  {host}
nameserver {ip}
route via {ip}
{host} resolves to {ip} and {ip}
the server {ip} answered with status {number}
X-Forwarded-For: {ip}
From: {name} <{email}>
To: {email}, {email}
cc {mention}
thanks {mention} for the hint
see {title}
{title} does it in the same way
this is what {title} calls a {noun}
the {pw_var} is hashed before it is stored
the {key_var} must be set
{key_var} and {pw_var} are taken from the vault
pass the {key_var} as the second argument
user:password@host is allowed too
{noun}://user:pass@host:{port}/{noun}
{noun}://{user}:{no_password}@{host}/{noun}
{version}, {version} and {version} are known to work
the range {local_ip}/8 is never routed
{date}: {noun} rewritten
HELD OUT
HACK({handle}): the {noun} is opened again
OPTIMIZE({handle}): keep in step with the {noun}
@author {name}
@author {name} <{email}>
Originally contributed by {name}
Ported to Python 3 by {name} in {year}
ping {given} about the {noun}
Questions? {email}
gateway is at {ip}
ssh {user}@{ip} to look at the {noun}
auth: {token}
the {user} account has the password {password}
mysql -u {user} -p{password} app
image digest sha256:{sha256}
build {version}
bound to {local_ip}
for instance {example_email}
as {no_name} showed
Initial version: {name} {date}
{name} wrote this for the {noun}
Pair-programmed with {name}
{date} {ip} {user} logged in
client {ip}:{number} closed the {noun}
via {title}
ask {mention}
"""

DOCSTRINGS = """\
:author: {name}
Author: {name} <{email}>
Written by {name}.
Thanks to {name} and {name}.
.. codeauthor:: {name} <{email}>
.. moduleauthor:: {name} <{email}>
>>> login("{user}", "{password}")
>>> Client("{key}")
>>> lookup("{email}")
>>> ping("{ip}")
Example: curl -u {user}:{password} https://{host}/
Example: {noun} --token {key}
The server at {ip} answers on port {port}.
Ask {email} for access.
:param host: such as {ip}
See the commit {sha}.
:param password: the password of the user
:param token: your token
>>> Client("{no_key}")
>>> lookup("{example_email}")
>>> ping("{local_ip}")
Example: curl -u {user}:{no_password} https://{host}/
Implements the {no_name} algorithm.
.. versionadded:: {version}
This was first written by {name} for the {noun} of {title}.
{name} found that the {noun} can be empty.
References:¶    {name} and {name}: The {noun}, {year}.
Authors:¶    {name} <{email}>¶    {name}
Usage: {noun} -u {user} -p {password} {ip}
{'host': '{ip}', 'port': {port}}
{'user': '{user}', 'password': '{password}'}
{'{key_var}': '{key}'}
{"name": "{name}", "email": "{email}"}
{'{key_var}': '{no_key}'}
{'user': '{user}', 'password': '{no_password}'}
See {title} for the {noun}.
HELD OUT
:maintainer: {name}
Adapted from a recipe of {name}, {year}.
Send patches to {name} at {email}.
>>> connect("{ip}", {port})
>>> auth(token="{key}")
>>> session.login("{user}", password="{password}")
.. versionchanged:: {version}
:returns: an address such as {local_ip}
Credit goes to {name}.
{"ip": "{ip}", "owner": "{email}"}
"""

HEADERS = '''\
# Copyright (c) {year} {name} <{email}>
# Copyright {year} {name}
# Copyright (C) {year}, {year} by {name}
# Author: {name} <{email}>
# Authors: {name}, {name}
# Contributors: {name} ({email}), {name} ({email})
# Created by {name} on {year}
# Maintained by {email}
# Copyright (c) {year} {no_name}
# Copyright {year} {no_name}. All rights reserved.
# -*- coding: utf-8 -*-
# Version {version}
# {noun}.py¶#¶# Author: {name} <{email}>¶# Created: {date}
# Authors: {name} <{email}>¶#          {name} <{email}>¶# License: BSD
__author__ = "{name}"¶__email__ = "{email}"
"""{noun} tools.¶¶:copyright: (c) {year} by {name}.¶:license: MIT¶"""
# Copyright (c) {year} {name}¶# Copyright (c) {year} {name}¶# Copyright (c) {year} {no_name}
# All Rights Reserved.¶# Copyright {year} {no_name}
HELD OUT
# (c) {year}, {name} <{email}>
# Written {year} by {name}
# Copyright {year}-{year} {name} and contributors
# $Id: {noun}.py {sha} $
# {name} <{email}>, {date}
__authors__ = ["{name}", "{name}"]
'''

LITERALS = """\
{email}
{ip}
{token}
{name}
http://{ip}:{port}/
{name} <{email}>
https://{user}:{safe_password}@{host}/
mailto:{email}
{version}
{uuid}
{example_email}
{local_ip}
git@github.com:acme/{noun}.git
{noun}
http://{local_ip}:{port}/
HELD OUT
ftp://{user}:{safe_password}@{ip}/
{ip}:{port}
user-{uuid}
"""
