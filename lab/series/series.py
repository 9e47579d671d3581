# SPDX-License-Identifier: GPL-2.0-only
"""The patches of a base as the mails to send.

    series.py BASE POSTING VERSION NAME EMAIL    build/series/BASE-POSTING-vVERSION.mbox, and a folder of the same mails for
                                                 git send-email; all postings when POSTING is empty

NAME and EMAIL are the sender's, who signs off every patch and is the author of those that name no other.  Nothing is written
to build/tree: the commits that `make tree` made of the patches are repeated in a repository of this program's own.

patches/BASE/postings says how the patches are cut into postings: which of them each has, under which prefix, to whom and with which
cover letter, and which postings it needs below it.  Without that file there is one posting, with all the patches.  What changed
in a version comes from the posting's changelog; an empty VERSION is the newest in there, or 1 when there is none.

Called by lab/series/make in the tool root.
"""

import configparser
import contextlib
import dataclasses
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

from lab.tree import tree

OUT = "build/series"


def check(version, name, address):
    """What was handed in, before anything is done."""
    if not re.fullmatch(r"([1-9]\d*)?", version):
        raise tree.TreeError(f"VERSION is a number, not '{version}': make series VERSION=14")
    settings = (("name", name, "Your Name", tree.AUTHOR[0]), ("email", address, "you@example.com", tree.AUTHOR[1]))
    commands = [f"git config --global user.{key} '{example}'" for key, value, example, placeholder in settings if value in ("", placeholder)]
    if commands:
        raise tree.TreeError(f"the series is signed off with your name and address; say who you are: {' && '.join(commands)}")


@dataclasses.dataclass
class Posting:
    """A set of mails."""

    source: tree.Tree
    name: str = ""
    patches: tuple = ()  # places in the series, from 0; empty: all of it
    prefix: str = "PATCH"
    to: str = ""  # sections of MAINTAINERS; empty: those that bases/BASE says
    letter: str = "0000-cover-letter.patch"
    changelog: str = "changelog"
    needs: tuple = ()  # postings that come before it, as their names, or all those of another base, as its name
    ask: str = ""  # what the sender has to find out, a line each

    @property
    def sections(self):
        return [section.strip() for section in (self.to or tree.base_field(self.source.base, "to")).split(",")]

    def indices(self):
        return self.patches or tuple(range(len(self.source.patch_files())))

    def path(self, name):
        return f"{self.source.patches}/{name}"

    def cover_letter(self):
        """Subject and text of the committed cover letter."""
        name = self.path(self.letter)
        if not os.path.exists(name):
            raise tree.TreeError(f"there is no {name}: write the cover letter there, in the form of git format-patch")
        with open(name, encoding="utf-8") as file:
            head, _, text = file.read().partition("\n\n")
        subject = email.message_from_string(head, policy=email.policy.default)["subject"] or ""
        return re.sub(r"^\[[^]]*\]\s*", "", subject), text.strip()

    def changes(self, version):
        """The version, the newest when it is empty, and the lines under `vVERSION:` in the changelog, which has the newest first."""
        name = self.path(self.changelog)
        sections = []
        with contextlib.suppress(FileNotFoundError), open(name, encoding="utf-8") as file:
            sections = re.split(r"^v(\d+):\n", file.read(), flags=re.MULTILINE)
        version = version or (sections[1] if len(sections) > 1 else "1")
        found = [text.strip("\n") for number, text in zip(sections[1::2], sections[2::2]) if number == version]
        if not sections and version == "1":
            return version, ""
        if len(found) != 1 or not found[0].strip():
            raise tree.TreeError(f"{name} does not say what changed in this version: add a line 'v{version}:' and a list below it")
        return version, found[0]

    def needed(self):
        """The postings to be applied before it, those of another base among them."""
        found = []
        for need in self.needs:
            parent = self.source.parent
            found += postings(parent).values() if parent and need == parent.base else [postings(self.source)[need]]
        return found

    def below(self):
        """Those of its own base."""
        return [posting for posting in self.needed() if posting.source is self.source]

    @property
    def start(self):
        """The tag that they are applied to, and then it."""
        parent = self.source.parent
        return "base" if parent and parent.base in self.needs else self.source.unpatched

    def called(self):
        """How other letters name it."""
        version = self.changes("")[0]
        return f'"{self.cover_letter()[0]}"' + (f", v{version}" if version != "1" else "")


def numbers(text, count):
    """Places in the series, from 0, for "1-5 24"."""
    found = []
    for word in text.split():
        first, _, last = word.partition("-")
        if not (first.isdigit() and (last or first).isdigit() and 1 <= int(first) <= int(last or first) <= count):
            raise ValueError(f"'{word}' is not a number or a range of those from 1 to {count}")
        found += range(int(first) - 1, int(last or first))
    return tuple(found)


def postings(source):
    """All of them, in their order: by name."""
    name = f"{source.patches}/postings"
    if not os.path.exists(name):
        return {"": Posting(source, needs=(source.parent.base,) if source.parent else ())}
    parser = configparser.ConfigParser()
    found, count = {}, len(source.patch_files())
    try:
        with open(name, encoding="utf-8") as file:
            parser.read_file(file)
        for section in parser.sections():
            words = dict(parser[section])
            needs = tuple(words.pop("needs", "").split())
            posting = Posting(source, section, numbers(words.pop("patches", ""), count), needs=needs, **words)
            if not posting.patches:
                raise ValueError(f"[{section}] has no patches")
            if wrong := [need for need in needs if need not in found and (not source.parent or need != source.parent.base)]:
                raise ValueError(f"[{section}] needs '{wrong[0]}', which is no posting before it")
            found[section] = posting
    except (configparser.Error, TypeError, ValueError) as error:
        raise tree.TreeError(f"{name}: {error}") from error
    taken = sorted(index for posting in found.values() for index in posting.patches)
    if taken != list(range(count)):
        odd = sorted({index + 1 for index in taken if taken.count(index) > 1} | {index + 1 for index in set(range(count)) - set(taken)})
        raise tree.TreeError(f"{name}: each patch is in one posting, but these are in none or in several: {', '.join(map(str, odd))}")
    return found


def description(posting, version, changed):
    """The cover letter, up to the shortlog and the diffstat, which git adds."""
    source = posting.source
    subject, text = posting.cover_letter()
    package, package_version = source.source()[1].split()
    upstream = re.match(r"(?:\d+:)?([\d.]+)", package_version)[1]
    base = f"v{upstream}, from Debian's package {package} {package_version}" + "".join(
        f"{', with' if first == 0 else ';'} {other.called()}" for first, other in enumerate(posting.needed())
    )
    # No base-commit: Debian's package is no commit of upstream's repository.
    return "\n\n".join((
        subject,
        text,
        *((f"Changes in v{version}\n{'=' * len(f'Changes in v{version}')}", changed) if changed else ()),
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

    def repeat(self, base, commits):
        """The changes of these commits after base, by their author or else the sender, signed off by the sender.  Returns the last."""
        sign_off = "Signed-off-by: {} <{}>".format(*self.sender)
        parent = base
        for commit in commits:
            name, address, date, message = self.git("log", "-1", "--format=%an%n%ae%n%aI%n%B", commit).split("\n", 3)
            subject = message.partition("\n")[0]
            if (name, address) == tree.AUTHOR:
                name, address = self.sender
            elif (name, address) != self.sender and f"Signed-off-by: {name} <{address}>" not in message.splitlines():
                raise tree.TreeError(f'"{subject}" is by {name} <{address}>, who has not signed it off: ask for it and add it to the commit')
            message = self.git("interpret-trailers", "--no-divider", "--if-exists=addIfDifferent", "--trailer", sign_off, data=message)
            parent = self.git(
                "commit-tree", self.tree_after(parent, commit, subject), "-p", parent, "-F", "-", data=message,
                GIT_AUTHOR_NAME=name, GIT_AUTHOR_EMAIL=address, GIT_AUTHOR_DATE=date, **self.committer,
            ).strip()
        return parent

    def tree_after(self, parent, commit, subject):
        """The files of parent with the change of the commit, which another one precedes in the tree, perhaps."""
        trees = self.git("rev-parse", f"{parent}^{{tree}}", f"{commit}^^{{tree}}", f"{commit}^{{tree}}").split()
        if trees[0] == trees[1]:
            return trees[2]
        merged = self.git("merge-tree", "--write-tree", f"--merge-base={commit}^", parent, commit, check=False)
        if merged.returncode:
            raise tree.TreeError(f'"{subject}" does not apply there:\n{tree.indent(merged.stdout)}correct the order in {self.source.patches}/postings')
        return merged.stdout.strip()

    def place(self, posting):
        """The commit that a posting is to be applied to."""
        base = tree.git(self.source.path, "rev-parse", f"{posting.start}^{{commit}}").strip()
        return self.repeat(base, [commit for other in posting.below() for commit in self.commits(other)])

    def commits(self, posting):
        """Those that patches/ was applied as or exported from, whatever was committed since."""
        base = tree.git(self.source.path, "rev-parse", "base^{commit}").strip()
        everything = self.git("rev-list", "--reverse", f"{base}..{self.source.taken()['head']}").split()
        return [everything[index] for index in posting.indices()]

    def mails(self, base, head, prefix, description_file):
        """What git format-patch makes of them, by file name."""
        where = f"{self.path}/mails"
        name, address = self.sender
        # HEAD, so that no name of a branch gets into the mails.
        self.git("update-ref", "--no-deref", "HEAD", head)
        self.git(
            "format-patch", "-q", *tree.FORMAT, f"--subject-prefix={prefix}", "--numbered", "--thread=shallow", "--cover-letter",
            f"--from={name} <{address}>", "--cover-from-description=subject", f"--description-file={description_file}",
            "-o", where, f"{base}..HEAD", **self.committer,
        )
        found = {}
        for file in sorted(os.listdir(where)):
            with open(f"{where}/{file}", encoding="utf-8") as stream:
                found[file] = stream.read()
        return found


def maintainers(posting, text):
    """Who the tree says is to hear of a patch: (address, is in To), in get_maintainer's order."""
    script = subprocess.run(
        ["perl", "scripts/get_maintainer.pl", "--nogit", "--nogit-fallback"],
        cwd=posting.source.path, input=text, capture_output=True, text=True, check=False,
    )
    if script.returncode:
        raise tree.TreeError(f"scripts/get_maintainer.pl failed in {posting.source.path}:\n{script.stdout}{script.stderr}")
    # Who is paid for it is called a supporter, in some trees.
    wanted = [f"{role}:{section}" for role in ("maintainer", "supporter") for section in posting.sections]
    # NAME <ADDRESS> (ROLE:SECTION,ROLE:SECTION), or ADDRESS (ROLE:SECTION)
    for person, roles in re.findall(r"^(.*?\S@[^\s>]+>?) \((.*)\)$", script.stdout, re.MULTILINE):
        yield email.utils.formataddr(email.utils.parseaddr(person)), any(role in wanted for role in roles.split(","))


def addressed(posting, mails):
    """The mails with To, the same in all, and Cc, the cover letter's being everybody's."""
    to, copies = [], {}
    cover, *patches = sorted(mails)
    for name in patches:
        copies[name] = []
        for person, direct in maintainers(posting, mails[name]):
            wanted = to if direct else copies[name]
            if person not in wanted:
                wanted.append(person)
    copies[cover] = list(dict.fromkeys(person for name in patches for person in copies[name]))
    if not to:
        where = posting.path("postings") if posting.to else f"bases/{posting.source.base}"
        raise tree.TreeError(f"get_maintainer.pl names nobody for the sections in 'to' of {where}: correct them")
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


def make(posting, version, sender):
    """Writes the mails; returns the mbox's name."""
    source = posting.source
    version, changed = posting.changes(version)
    prefix = posting.prefix + (f" v{version}" if version != "1" else "")
    text = description(posting, version, changed)
    with tempfile.TemporaryDirectory() as scratch:
        repository = Repository(f"{scratch}/git", source, sender)
        tree.write(f"{scratch}/description", text + "\n")
        base = repository.place(posting)
        last = repository.repeat(base, repository.commits(posting))
        mails, to = addressed(posting, repository.mails(base, last, prefix, f"{scratch}/description"))
    out = f"{OUT}/{'-'.join(filter(None, (source.base, posting.name)))}-v{version}"
    write_all(out, mails)
    readable = email.header.make_header(email.header.decode_header(", ".join(to)))
    print(
        f"series: [{prefix}] {posting.cover_letter()[0]}: {len(mails) - 1} patch{'es'[: 2 * (len(mails) != 2)]} and the cover letter, to {readable}:\n"
        f"    {out}.mbox    to read (mutt -Rf), and to try (git am, b4 am -m)\n"
        f"    {out}/        the same, a file for each, to send"
    )
    for line in posting.ask.splitlines():
        print(f"    before it is sent: {line}")
    return f"{out}.mbox"


def main(base, name, version, sender, address):
    check(version, sender, address)
    tree.main("make", base)
    source = tree.Tree(base)
    offered = postings(source)
    if name and name not in offered:
        there = f"there are {', '.join(offered)}" if "" not in offered else "it has only one, with all its patches"
        raise tree.TreeError(f"patches/{base} has no posting '{name}': {there}")
    if version and not name and len(offered) > 1:
        raise tree.TreeError(f"each posting has versions of its own: say of which, make series POSTING=NAME VERSION={version}; there are {', '.join(offered)}")
    for posting in [offered[name]] if name else offered.values():
        make(posting, version, (sender, address))
    print(f"git send-email --dry-run {OUT}/FOLDER/ shows what would be sent, from {sender} <{address}>; without --dry-run it is.")


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except tree.TreeError as error:
        sys.exit(f"series: {error}")
    except KeyboardInterrupt:
        sys.exit("series: interrupted; nothing was written")
