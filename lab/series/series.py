"""The patches of a base as the mails to send.

    series.py BASE VERSION NAME EMAIL    build/series/BASE-vVERSION.mbox, and a folder of the same mails for git send-email

NAME and EMAIL are the sender's, who signs off every patch and is the author of those that name no other.  Nothing is written
to build/tree: the commits that `make tree` made of the patches are repeated in a repository of this program's own.  The cover
letter is patches/BASE/0000-cover-letter.patch, and what changed in this version comes from patches/BASE/changelog; an empty VERSION
is the newest in there.

Called by lab/series/make in the tool root.
"""

import contextlib
import email
import email.header
import email.policy
import email.utils
import os
import re
import subprocess
import sys
import tempfile
import textwrap

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "tree"))
import tree

OUT = "build/series"


def check(version, name, address):
    """What was handed in, before anything is done."""
    if not re.fullmatch(r"([1-9]\d*)?", version):
        raise tree.TreeError(f"VERSION is a number, not '{version}': make series VERSION=14")
    settings = (("name", name, "Your Name", tree.AUTHOR[0]), ("email", address, "you@example.com", tree.AUTHOR[1]))
    commands = [f"git config --global user.{key} '{example}'" for key, value, example, placeholder in settings if value in ("", placeholder)]
    if commands:
        raise tree.TreeError(f"the series is signed off with your name and address; say who you are: {' && '.join(commands)}")


def cover_letter(source):
    """Subject and text of the committed cover letter."""
    name = f"{source.patches}/0000-cover-letter.patch"
    if not os.path.exists(name):
        raise tree.TreeError(f"there is no {name}: write the cover letter there, in the form of git format-patch")
    with open(name, encoding="utf-8") as file:
        head, _, text = file.read().partition("\n\n")
    subject = email.message_from_string(head, policy=email.policy.default)["subject"] or ""
    return re.sub(r"^\[[^]]*\]\s*", "", subject), text.strip()


def changes(source, version):
    """The version, the newest when it is empty, and the lines under `vVERSION:` in the changelog, which has the newest first."""
    name = f"{source.patches}/changelog"
    sections = []
    with contextlib.suppress(FileNotFoundError), open(name, encoding="utf-8") as file:
        sections = re.split(r"^v(\d+):\n", file.read(), flags=re.MULTILINE)
    version = version or (sections[1] if len(sections) > 1 else "1")
    found = [text.strip("\n") for number, text in zip(sections[1::2], sections[2::2]) if number == version]
    if len(found) != 1 or not found[0].strip():
        raise tree.TreeError(f"{name} does not say what changed in this version: add a line 'v{version}:' and a list below it")
    return version, found[0]


def description(source, version, changed):
    """The cover letter, up to the shortlog and the diffstat, which git adds."""
    subject, text = cover_letter(source)
    package, package_version = source.source()[1].split()
    upstream = re.match(r"(?:\d+:)?([\d.]+)", package_version)[1]
    base = f"v{upstream}, from Debian's package {package} {package_version}"
    if source.parent:
        base += f', with "{cover_letter(source.parent)[0]}", v{changes(source.parent, "")[0]}'
    # No base-commit: Debian's package is no commit of upstream's repository.
    return "\n\n".join((
        subject,
        text,
        f"Changes in v{version}\n{'=' * len(f'Changes in v{version}')}",
        changed,
        "\n".join(textwrap.wrap(f"Base: {base}.", 75, break_on_hyphens=False)),
    ))


class Repository:
    """A repository of our own that sees the objects of the tree."""

    def __init__(self, path, source, sender):
        self.path = path
        self.source = source
        self.sender = sender
        name, address = sender
        self.committer = {"GIT_COMMITTER_NAME": name, "GIT_COMMITTER_EMAIL": address}
        tree.git(".", "init", "-q", "--bare", path)
        tree.write(f"{path}/objects/info/alternates", os.path.abspath(f"{source.path}/.git/objects") + "\n")

    def git(self, *args, **more):
        return tree.git(self.path, *args, **more)

    def repeat(self, base, head):
        """The commits after base, by their author or else the sender, signed off by the sender.  Returns the last."""
        sign_off = "Signed-off-by: {} <{}>".format(*self.sender)
        parent = base
        for commit in self.git("rev-list", "--reverse", f"{base}..{head}").split():
            name, address, date, message = self.git("log", "-1", "--format=%an%n%ae%n%aI%n%B", commit).split("\n", 3)
            subject = message.partition("\n")[0]
            if (name, address) == tree.AUTHOR:
                name, address = self.sender
            elif (name, address) != self.sender and f"Signed-off-by: {name} <{address}>" not in message.splitlines():
                raise tree.TreeError(f'"{subject}" is by {name} <{address}>, who has not signed it off: ask for it and add it to the commit')
            message = self.git("interpret-trailers", "--no-divider", "--if-exists=addIfDifferent", "--trailer", sign_off, data=message)
            parent = self.git(
                "commit-tree", f"{commit}^{{tree}}", "-p", parent, "-F", "-", data=message,
                GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=address, GIT_AUTHOR_DATE=date, **self.committer,
            ).strip()
        return parent

    def mails(self, base, head, version, description_file):
        """What git format-patch makes of them, by file name."""
        where = f"{self.path}/mails"
        name, address = self.sender
        # HEAD, so that no name of a branch gets into the mails.
        self.git("update-ref", "--no-deref", "HEAD", head)
        self.git(
            "format-patch", "-q", *tree.FORMAT, f"--subject-prefix=PATCH v{version}", "--numbered", "--thread=shallow", "--cover-letter",
            f"--from={name} <{address}>", "--cover-from-description=subject", f"--description-file={description_file}",
            "-o", where, f"{base}..HEAD", **self.committer,
        )
        found = {}
        for file in sorted(os.listdir(where)):
            with open(f"{where}/{file}", encoding="utf-8") as stream:
                found[file] = stream.read()
        return found


def maintainers(source, text):
    """Who the tree says is to hear of a patch: (address, is in To), in get_maintainer's order."""
    script = subprocess.run(
        ["perl", "scripts/get_maintainer.pl", "--nogit", "--nogit-fallback"],
        cwd=source.path, input=text, capture_output=True, text=True, check=False,
    )
    if script.returncode:
        raise tree.TreeError(f"scripts/get_maintainer.pl failed in {source.path}:\n{script.stdout}{script.stderr}")
    # Who is paid for it is called a supporter, in some trees.
    sections = [section.strip() for section in tree.base_field(source.base, "to").split(",")]
    wanted = [f"{role}:{section}" for role in ("maintainer", "supporter") for section in sections]
    # NAME <ADDRESS> (ROLE:SECTION,ROLE:SECTION), or ADDRESS (ROLE:SECTION)
    for person, roles in re.findall(r"^(.*?\S@[^\s>]+>?) \((.*)\)$", script.stdout, re.MULTILINE):
        yield email.utils.formataddr(email.utils.parseaddr(person)), any(role in wanted for role in roles.split(","))


def addressed(source, mails):
    """The mails with To, the same in all, and Cc, the cover letter's being everybody's."""
    to, copies = [], {}
    cover, *patches = sorted(mails)
    for name in patches:
        copies[name] = []
        for person, direct in maintainers(source, mails[name]):
            wanted = to if direct else copies[name]
            if person not in wanted:
                wanted.append(person)
    copies[cover] = list(dict.fromkeys(person for name in patches for person in copies[name]))
    if not to:
        raise tree.TreeError(f"get_maintainer.pl names nobody for the sections in 'to' of bases/{source.base}: correct them")
    result = {}
    for name in sorted(mails):
        head, empty, text = mails[name].partition("\n\n")
        fields = [("To", to), ("Cc", [person for person in copies[name] if person not in to])]
        lines = [f"{field}: " + ",\n ".join(people) for field, people in fields if people]
        # One line for a subject, as git send-email sends it: the b4 of Debian 12 stumbles over more.
        result[name] = "\n".join([head.replace("\n ", " "), *lines]) + empty + text
    return result, to


def write_all(out, mails):
    tree.remove(f"{out}.tmp")
    os.makedirs(f"{out}.tmp")
    for name, text in mails.items():
        tree.write(f"{out}.tmp/{name}", text)
    tree.remove(out)
    os.rename(f"{out}.tmp", out)
    tree.write(f"{out}.mbox", "".join(mails.values()))


def make(source, version, sender):
    """Writes the mails; returns the mbox's name."""
    version, changed = changes(source, version)
    text = description(source, version, changed)
    base = tree.git(source.path, "rev-parse", "base^{commit}").strip()
    # The commit that patches/ was applied as or exported from, whatever was committed since.
    head = source.taken()["head"]
    with tempfile.TemporaryDirectory() as scratch:
        repository = Repository(f"{scratch}/git", source, sender)
        tree.write(f"{scratch}/description", text + "\n")
        last = repository.repeat(base, head)
        mails, to = addressed(source, repository.mails(base, last, version, f"{scratch}/description"))
    out = f"{OUT}/{source.base}-v{version}"
    write_all(out, mails)
    readable = email.header.make_header(email.header.decode_header(", ".join(to)))
    print(
        f"series: {len(mails) - 1} patches and the cover letter, from {sender[0]} <{sender[1]}> to {readable}:\n"
        f"    {out}.mbox    to read (mutt -Rf), and to try (git am, b4 am -m)\n"
        f"    {out}/        the same, a file for each, to send:\n"
        f"git send-email --dry-run {out}/ shows what would be sent; without --dry-run it is."
    )
    return f"{out}.mbox"


def main(base, version, name, address):
    check(version, name, address)
    tree.main("make", base)
    make(tree.Tree(base), version, (name, address))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except tree.TreeError as error:
        sys.exit(f"series: {error}")
    except KeyboardInterrupt:
        sys.exit("series: interrupted; nothing was written")
