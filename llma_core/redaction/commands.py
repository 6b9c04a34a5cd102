"""Commands that take a password as an argument."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from llma_core.redaction.cookies import CURL_HINT
from llma_core.redaction.places import Found
from llma_core.redaction.values import PASSWORD, Form, as_text

__all__ = ["ARGUMENT", "COMMANDS", "commands_in", "may_be_commands"]

# What divides commands: also a line end in JSON, unless a backslash before it continues the command.
# Each alternative begins with a literal, which makes the search fast.
_SEPARATOR = re.compile(
    rb"\n(?<!\\\n)|\r(?<!\\\r)|;|\||`|&&|\$\(|\\(?<!\\\\)(?:n|r(?![a-z])|\\[nr]|\\{3}[nr]|\\{7}[nr]|\\{15}[nr]|\\{31}[nr])"
)
_COMMAND_REACH = 512
"""How far back a command may begin, and how far on it is searched."""
ARGUMENT = rb"""(?:\\{0,63}(?:"([^"\\\r\n]{1,256})|'([^'\\\r\n]{1,256}))|([^\s"'`\\|;]{1,256}))"""
_SPACE = rb"(?:[ \t=]|\\{1,63}[\r\n]{1,2}[ \t]{0,32}|\\{3,63}n[ \t]{0,32}){1,4}"
_MAYBE_SPACE = b"(?:" + _SPACE + b")?"
_USER = rb"""(?:\\{0,63}["'])?[^\s:"'\\]{1,64}"""
_NAMED_USER = re.compile(rb" (?:-u|-h|--user(?:name)?|--host|-U)\b|[ ]-u\w")
# A flag that may be that of a password, for some command. It begins with the rarer character, which makes the search
# fast.
_FLAG = re.compile(
    rb"-(?<= -)(?:[A-Za-z]{0,5}[pPawuUNkb]|-?(?:user|proxy-user|auth|creds|src-creds|dest-creds|pass|body|value"
    rb"|secret-string|from-literal|String|AsPlainText))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Command:
    """A command that takes a password as an argument.

    Attributes:
        words: its names, or other words that it cannot be without.
        arguments: matches the flag and the password.
        sure: whether the argument is a password in any case. If not, a user or a host has to be named, too.
        needs: what else has to be in the command.
    """

    words: tuple[bytes, ...]
    arguments: re.Pattern[bytes]
    sure: bool = True
    needs: bytes = b""


def _command(words: bytes, flags: bytes, *, sure: bool = True, needs: bytes = b"") -> _Command:
    return _Command(
        words=tuple(words.split()), arguments=re.compile(b"[ \t]" + flags + ARGUMENT), sure=sure, needs=needs
    )


_COMMANDS = (
    _command(
        b"""mysql mysqldump mysqladmin mysqlimport mysqlshow mysqlcheck mysqlsh mysqlpump mysqlslap mariadb mariadb-dump
        mariadb-admin mariadb-import mariadb-check""",
        rb"-p",
        sure=False,
    ),
    _command(
        b"mongo mongosh mongodump mongorestore mongoexport mongoimport mongostat mongotop mongofiles login",
        rb"-p" + _MAYBE_SPACE,
        sure=False,
    ),
    _command(b"sshpass", rb"-p" + _MAYBE_SPACE),
    _command(b"--creds --src-creds --dest-creds", rb"--(?:src-|dest-)?creds" + _SPACE + _USER + b":"),
    _command(b"redis-cli", rb"(?:-a|--pass)" + _SPACE),
    _command(b"ldapsearch ldapadd ldapmodify ldapdelete ldapwhoami ldappasswd ldapcompare", rb"-w" + _MAYBE_SPACE),
    _command(b"smbclient rpcclient winexe", rb"-U" + _MAYBE_SPACE + rb"""(?:\\{0,63}["'])?[^\s%"'\\]{1,64}%"""),
    _command(b"curl", rb"(?:-[a-zA-Z]{0,5}[uU]|--(?:proxy-)?user)" + _MAYBE_SPACE + _USER + b":"),
    _command(b"sqlcmd bcp isql tsql", rb"-P" + _MAYBE_SPACE),
    _command(b"mosquitto_pub mosquitto_sub mosquitto_rr ipmitool", rb"-P" + _MAYBE_SPACE),
    _command(b"useradd usermod", rb"-p" + _SPACE),
    _command(
        b"""cqlsh rdesktop psexec evil-winrm ncftpget ncftpput twine cypher-shell rabbitmqadmin hdbsql beeline""",
        rb"-p" + _SPACE,
        sure=False,
    ),
    # They take lists of passwords, too.
    _command(b"crackmapexec netexec nxc", rb"-p" + _SPACE + rb"(?![^\s]{1,128}\.(?:txt|lst)\b)", sure=False),
    _command(b"7z 7za 7zz unrar rar", rb"-p"),
    _command(b"add-generic-password add-internet-password", rb"-w" + _SPACE),
    _command(b"unlock-keychain create-keychain", rb"-p" + _SPACE),
    _command(b"etcdctl", rb"--user" + _SPACE + _USER + b":"),
    _command(b"lftp", rb"-u" + _MAYBE_SPACE + rb"""(?:\\{0,63}["'])?[^\s,"'\\]{1,64},"""),
    _command(b"zip unzip ssh-keygen", rb"-P" + _SPACE),
    _command(b"ssh-keygen", rb"-N" + _SPACE),
    _command(b"openssl", rb"-k" + _SPACE, needs=b" enc"),
    _command(b"htpasswd", rb"-[A-Za-z]*b[A-Za-z]*(?:[ \t]+-\w+)*(?:[ \t]+[^\s-][^\s]{0,128}){1,2}[ \t]+"),
    _command(b"--from-literal", rb"--from-literal" + _SPACE + rb"""(?:\\{0,63}["'])?[\w.-]{1,64}=(?:\\{0,63}["'])?"""),
    _command(b"secret", rb"(?:-b|--body)" + _SPACE, needs=b"gh secret set"),
    _command(b"secretsmanager", rb"--secret-string" + _SPACE + rb"(?!\\{0,63}.?\{)"),
    _command(b"put-parameter", rb"--value" + _SPACE, needs=b"SecureString"),
    _command(b"keyvault", rb"--value" + _SPACE, needs=b"secret set"),
    _command(b"ConvertTo-SecureString", rb"(?<=SecureString.)(?:-String" + _SPACE + b")?(?!-)", needs=b"-AsPlainText"),
)
_BY_WORD: Final = {
    word: tuple(command for command in _COMMANDS if word in command.words)
    for command in _COMMANDS
    for word in command.words
}
COMMANDS: Final = (
    *b"""
    mysql mariadb mongo sshpass redis-cli ldap openssl passwd from-literal SecureString secretsmanager smbclient
    rpcclient winexe keygen -creds sqlcmd bcp isql tsql mosquitto_ ipmitool useradd usermod cqlsh rdesktop psexec
    evil-winrm ncftp crackmapexec netexec nxc twine cypher-shell rabbitmqadmin hdbsql beeline
    unrar generic-password internet-password -keychain etcdctl lftp
    """.split(),
    *(b"7z ", b"7za ", b"7zz ", b"rar "),
    *(b"login ", b"http -a", b"https -a", b"zip ", b"secret set"),
)
"""Literals that one of them is in each command, other than curl, that takes a password."""
_DIVIDERS = bytes(code if chr(code).isalnum() or chr(code) in "_.:-" else ord(" ") for code in range(128)) + b" " * 128
_CONTROL = re.compile(rb"\\(?:u00[01][0-9a-f]|[tbfnr])")
_MAY_BE_ARGUMENT = re.compile(rb"""-(?<= -)(?:pass(?:in|out|wd|word)? [\\"']*pass:|a(?<=http -a)|a(?<=https -a))""")
_ADJACENT = 160
"""Bytes that what `_MAY_BE_ARGUMENT` matches may take, with the quotes of nested JSON, and more."""
_HTTP_ARGUMENT = re.compile(rb"-a(?:(?<=http -a)|(?<=https -a))" + _SPACE + _USER + b":" + ARGUMENT)
_PASS_ARGUMENT = re.compile(rb"""-pass(?<= -pass)(?:in|out|wd|word)? (?:\\{0,63}["'])?pass:""" + ARGUMENT)


def commands_in(data: bytes) -> Iterator[Found]:
    """Find passwords among the arguments of commands."""
    if (flag := _FLAG.search(data)) is not None:
        for start, end in _flagged(data, flag.start(), _COMMAND_REACH):
            if named := _BY_WORD.keys() & _command_words(data[start:end]):
                yield from _arguments_in(data, start, end, named)
        for match in _PASS_ARGUMENT.finditer(data):
            yield from _argument(match, "variable")
        for match in _HTTP_ARGUMENT.finditer(data):
            yield from _argument(match, "variable")


def _command_words(data: bytes) -> list[bytes]:
    """Return the words of a text, or of JSON, in which a control character is written as an escape."""
    return (_CONTROL.sub(b" ", data) if b"\\" in data else data).translate(_DIVIDERS).split()


def _flagged(data: bytes, at: int, reach: int) -> Iterator[tuple[int, int]]:
    """Yield the start and end of each command with a flag, from *at* on, that may be that of a password."""
    end = 0
    while (flag := _FLAG.search(data, at)) is not None:
        start = max(end, flag.start() - reach)
        for separator in _SEPARATOR.finditer(data, start, flag.start()):
            start = separator.end()
        after = _SEPARATOR.search(data, flag.end(), flag.end() + reach)
        at = end = after.start() if after is not None else min(len(data), flag.end() + reach)
        yield start, end


def _arguments_in(data: bytes, start: int, end: int, named: set[bytes]) -> Iterator[Found]:
    """Find passwords among the arguments of one command, by its telling words."""
    for word in named:
        for command in _BY_WORD[word]:
            if command.needs and data.find(command.needs, start, end) < 0:
                continue
            is_sure = command.sure or _NAMED_USER.search(data, start, end) is not None
            for match in command.arguments.finditer(data, max(0, start - 1), min(len(data), end + 64)):
                if match.start() < end:
                    yield from _argument(match, "variable" if is_sure else "bare")


def _argument(match: re.Match[bytes], form: Form) -> Iterator[Found]:
    group = match.lastindex
    assert group is not None
    value = match[group].rstrip(b".,)")
    is_flag = value.startswith(b"-") and match[0][-len(match[group]) - 1 :][:1] in b" \t"
    if not is_flag and PASSWORD.hides(as_text(value), form):
        yield Found(match.start(group), match.start(group) + len(value), "password", by_name=True)


def may_be_commands(data: bytes) -> bool:
    """Whether a command in JSON may take a password as an argument."""
    flag = _FLAG.search(data)
    if flag is None:
        return False
    # An escape takes more bytes than its character.
    reach = 6 * _COMMAND_REACH
    for start, end in _flagged(data, flag.start(), reach):
        # What is adjacent to a flag may be divided by the end of a reach.
        if _MAY_BE_ARGUMENT.search(data, max(0, start - _ADJACENT), end + _ADJACENT) is not None:
            return True
        if end - start > reach or not _BY_WORD.keys().isdisjoint(_command_words(data[start:end])):
            return CURL_HINT.search(data) is not None or any(literal in data for literal in COMMANDS)
    return False
