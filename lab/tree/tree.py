# SPDX-License-Identifier: GPL-2.0-only
"""Unpack a base and apply its patches as commits, and write the commits back.

    tree.py make BASE     build/tree/BASE, a git repository: tag `base`, and a commit for each patch of patches/BASE
    tree.py pristine BASE build/tree/BASE.base, the base's files alone
    tree.py export BASE   patches/BASE from the commits of build/tree/BASE

A base that is `onto` another one starts with the other's files, tag `mainline`, and the other's patches; tag `base` comes after
those.  They are taken from patches/: a series is tried on what another one is, and not on what somebody makes of it just now.

Runs in the tool root.  Work in a tree is never thrown away: make changes a tree only when all that is in it came from
patches/.  What was taken from there is noted in build/tree/BASE/.git/lab.json.
"""

import contextlib
import fcntl
import functools
import glob
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time

# Who commits when nobody says otherwise.  `make series` puts the sender in this place; a contributor who wants to be named in
# the patch commits with --author.
AUTHOR = ("Author of the series", "author@series.invalid")
EPOCH = "2016-10-06T08:45:00+0000"  # of the base commit: the same files give the same id everywhere

# Everything that shapes a patch, so that nobody's git configuration does.
FORMAT = (
    "--zero-commit --no-signature --no-numbered --no-thread --no-cover-letter --no-attach --no-base --no-to --no-cc --no-notes "
    "--no-add-header --no-from --no-signoff --subject-prefix=PATCH --suffix=.patch --start-number=1 --filename-max-length=64 "
    "--encode-email-headers --stat=72 --summary -p --unified=3 --inter-hunk-context=0 --diff-algorithm=myers --indent-heuristic "
    "--abbrev=12 --no-renames --no-ext-diff --no-textconv --no-color --default-prefix --no-relative --ignore-submodules=none "
    "-O/dev/null"
).split()

# The user's own are for work in a tree; what this program does is the same with any.
SETTINGS = ("core.hooksPath=/dev/null", "i18n.commitEncoding=UTF-8", "i18n.logOutputEncoding=UTF-8", "commit.gpgSign=false", "gc.auto=0")

PATCH = re.compile(r"(?!0000-)\d{4}-.*\.patch$")


class TreeError(Exception):
    pass


def git(tree, *args, check=True, data=None, **environment):
    result = subprocess.run(
        ["git", *(word for setting in SETTINGS for word in ("-c", setting)), "-C", tree, *args],
        env=dict(os.environ, **environment), input=data, capture_output=True, text=True, check=False,
    )
    if check and result.returncode:
        raise TreeError(f"git {args[0]} failed in {tree}:\n{result.stdout}{result.stderr}")
    return result if not check else result.stdout


class Tree:
    def __init__(self, base):
        self.base = base
        self.path = f"build/tree/{base}"
        self.pristine = f"{self.path}.base"
        self.patches = f"patches/{base}"

    # Properties, since some have their path elsewhere.

    @property
    def note(self):
        return f"{self.path}/.git/lab.json"

    @property
    def applying(self):
        return f"{self.path}/.git/lab-applying"

    @functools.cached_property
    def parent(self):
        """The base that this one is onto, if any."""
        name = base_field(self.base, "onto", "")
        return Tree(name) if name else None

    @property
    def unpatched(self):
        """The tag of what the package has."""
        return "mainline" if self.parent else "base"

    # What is on disk

    def source(self):
        """The base's archive of sources in the tool root, and its version."""
        if self.parent:
            return self.parent.source()
        name = base_field(self.base, "source", "")
        if name:
            for archive in glob.glob(f"/usr/src/{name}_*.orig.tar.xz"):
                return archive, os.path.basename(archive).removesuffix(".orig.tar.xz").replace("_", " ")
            raise TreeError(f"the tool root has no sources of {name}: run 'make setup'")
        pattern = base_field(self.base, "package")
        status = subprocess.run(
            ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n", pattern],
            capture_output=True, text=True, check=False,
        )
        for line in status.stdout.splitlines():
            state, package, version = line.split()
            if state == "installed":
                return f"/usr/src/{package}.tar.xz", f"{package} {version}"
        raise TreeError(f"the tool root has no package {pattern}: run 'make setup'")

    def patch_files(self):
        if not os.path.isdir(self.patches):
            return []
        return [f"{self.patches}/{name}" for name in sorted(os.listdir(self.patches)) if PATCH.match(name)]

    def patch_key(self):
        """What the patches are, as one word."""
        key = hashlib.sha256()
        for name in self.patch_files():
            with open(name, "rb") as file:
                key.update(hashlib.sha256(file.read()).digest())
        return key.hexdigest()

    def parent_key(self):
        return self.parent.patch_key() if self.parent else ""

    def taken(self):
        """What is in the tree: the base's version, patch_key() and parent_key() when they were applied, and the last commit then."""
        with open(self.note, encoding="utf-8") as file:
            return {"parent": "", **json.load(file)}

    def note_taken(self, version, patches, parent, head, path=None):
        taken = {"base": version, "patches": patches, "parent": parent, "head": head}
        write(path or self.note, json.dumps(taken))

    def head(self):
        return git(self.path, "rev-parse", "HEAD").strip()

    def in_am(self):
        return os.path.isdir(f"{self.path}/.git/rebase-apply")

    def in_rebase(self):
        return os.path.isdir(f"{self.path}/.git/rebase-merge")

    def changes(self):
        return git(self.path, "status", "--porcelain").splitlines()

    def work(self, taken):
        """What is in the tree that did not come from patches/, in words; nothing when there is none."""
        found = []
        if self.in_am():
            found.append("a git am in progress")
        if self.in_rebase():
            found.append("a git rebase in progress")
        if self.head() != taken["head"]:
            found.append("commits of its own")
        changes = self.changes()
        if changes:
            found.append(f"{len(changes)} changed file{'s'[: len(changes) != 1]}")
        return " and ".join(found)

    # make

    def unpack_what_is_new(self, version):
        """There is a tree of this version of the base, with patches applied or not yet."""
        if os.path.isdir(self.path) and self.taken()["base"] != version:
            self.retire(version)
        if not os.path.isdir(self.path):
            self.unpack()

    def unpack(self):
        """The base as the single commit of a new repository, complete when this returns."""
        version = self.source()[1]
        partial = f"{self.path}.tmp"
        remove(partial)
        if self.parent:
            self.clone(partial)
        else:
            self.import_files(partial)
        git(partial, "config", "core.untrackedCache", "true")
        self.note_taken(version, "", "", git(partial, "rev-parse", "HEAD").strip(), f"{partial}/.git/lab.json")
        write(f"{partial}/.git/lab-applying", "")
        os.rename(partial, self.path)

    def import_files(self, partial):
        archive, version = self.source()
        os.makedirs(partial)
        with step(f"tree: unpacking {version}"):
            untar(archive, partial)
        with step("tree: committing it"):
            git(partial, "init", "-q", "-b", "series")
            # Blobs go into one pack as they are added, barely compressed: a hundred thousand loose files take minutes.
            quick = ("-c", "core.bigFileThreshold=1", "-c", "core.compression=1", "-c", "core.fsync=none")
            git(partial, *quick, "add", "-A", "-f")
            name_author(partial)
            git(
                partial, "commit", "-q", "-m", f"{version}\n\nThe files of Debian's package, unchanged.",
                GIT_AUTHOR_DATE=EPOCH, GIT_COMMITTER_DATE=EPOCH,
            )
            git(partial, "tag", "base")

    def clone(self, partial):
        """The commit that the parent starts with, and its tag. Objects are files that both trees have, and neither changes."""
        with self.parent.locked():
            self.parent.unpack_what_is_new(self.source()[1])
            with step(f"tree: copying the base of {self.parent.path}"):
                git(".", "clone", "-q", "--local", "--no-checkout", "--single-branch", "--no-tags", "--branch", "base", self.parent.path, partial)
                git(partial, "remote", "remove", "origin")
                name_author(partial)
                git(partial, "checkout", "-q", "-b", "series")
                git(partial, "tag", "mainline")

    def make(self):
        version = self.source()[1]
        self.unpack_what_is_new(version)
        taken = self.taken()
        changed = [
            series.patches for series, key in ((self.parent, taken["parent"]), (self, taken["patches"]))
            if series and series.patch_key() != key
        ]
        if os.path.exists(self.applying):
            # Interrupted while only patches of ours were being applied.
            git(self.path, "am", "--abort", check=False)
            git(self.path, "reset", "-q", "--hard", "base")
            self.apply(version)
        elif self.in_am():
            raise TreeError(
                f"{self.path} is in the middle of a git am. Finish it there (fix the conflict, git add, git am --continue) and write the\n"
                f"result back with 'make export', or give up with 'git -C {self.path} am --abort'."
            )
        else:
            work = self.work(taken)
            if changed and work:
                raise TreeError(
                    f"{' and '.join(changed)} has changed, but {self.path} has {work}, which would be lost.\n"
                    f"Keep it: commit, then 'make export' (it replaces {self.patches}; git merges it with what came in).\n"
                    f"Or drop it: 'git -C {self.path} reset --hard {taken['head'][:12]}' and 'git -C {self.path} clean -df', then 'make tree'."
                )
            if changed:
                self.apply(version)
            elif work:
                print(f"tree: {self.path} has {work}; 'make export' writes commits back to {self.patches}")
        self.tell_what_is_missing()

    def tell_what_is_missing(self):
        """Work on the parent's patches is not tried here until it is in patches/."""
        if not self.parent or not os.path.isdir(self.parent.path) or os.path.exists(self.parent.applying):
            return
        with self.parent.locked():
            work = self.parent.work(self.parent.taken())
        if work:
            print(f"tree: {self.parent.path} has {work}, not in {self.path} until 'make export BASE={self.parent.base}'")

    def retire(self, version):
        """The base's package has a new version: start anew, unless someone works here."""
        taken = self.taken()
        kept = git(self.path, "for-each-ref", "--format=%(refname)").split()
        if self.work(taken) or set(kept) - {"refs/heads/series", "refs/tags/base", "refs/tags/mainline"}:
            raise TreeError(
                f"the base is {version} now, and {self.path} has work on {taken['base']}. 'make export' it if you want it,\n"
                f"then move {self.path} out of the way; 'make tree' makes a new one."
            )
        os.rename(self.path, f"{self.path}.tmp")
        remove(f"{self.path}.tmp")

    def apply(self, version):
        write(self.applying, "")
        if self.parent:
            self.lay_base(version)
        git(self.path, "checkout", "-q", "-B", "series", "base")
        key = self.patch_key()
        count = self.apply_patches(self, lambda file, result: self.refused(file, version, result))
        self.note_taken(version, key, self.taken()["parent"], self.head())
        os.unlink(self.applying)
        print(f"tree: {self.path} is {self.starts_with(version)} and {count} patches, each a commit after the tag 'base'")

    def lay_base(self, version):
        """The tag `base`, after the parent's patches as they are now."""
        key = self.parent_key()
        if self.taken()["parent"] == key:
            return
        git(self.path, "checkout", "-q", "-B", "series", "mainline")
        self.apply_patches(self.parent, self.parent_refused)
        git(self.path, "tag", "-f", "base")
        self.note_taken(version, "", key, self.head())

    def apply_patches(self, series, refused):
        files = series.patch_files()
        if not files:
            return 0
        with step(f"tree: applying {len(files)} patches of {series.patches}"):
            # All at once, so that whoever resolves a conflict goes on with those after it by git am --continue.
            result = git(
                self.path, "am", "-3", "-q", "--keep-non-patch", "--no-scissors", "--no-gpg-sign", "--committer-date-is-author-date",
                *map(os.path.abspath, files), check=False, GIT_COMMITTER_NAME=AUTHOR[0], GIT_COMMITTER_EMAIL=AUTHOR[1],
            )
            if result.returncode:
                refused(files[self.stopped_at() - 1], result)
        return len(files)

    def stopped_at(self):
        """The number of the patch that a git am is at: the first if it does not take that for a patch."""
        try:
            with open(f"{self.path}/.git/rebase-apply/next", encoding="utf-8") as file:
                return int(file.read())
        except FileNotFoundError:
            return 1

    def starts_with(self, version):
        return f"{version} with {self.parent.patches}" if self.parent else version

    def parent_refused(self, file, result):
        """To be resolved where those patches are written; here the next make starts over."""
        remove(f"{self.path}/.git/rebase-apply")
        raise TreeError(f"{file} does not apply:\n{indent(result.stdout + result.stderr)}'make tree BASE={self.parent.base}' says how to go on.")

    def refused(self, file, version, result):
        patch = f"{self.path}/.git/rebase-apply/patch"
        if not os.path.exists(patch) or os.path.getsize(patch) == 0:
            # Not a patch at all: there is nothing to resolve, and the next make starts over.
            remove(f"{self.path}/.git/rebase-apply")
            raise TreeError(f"{file} is not a patch that git can read:\n{indent(result.stderr)}")
        # From here on the tree is the user's; put back to the base it is ours again.
        self.note_taken(version, "", self.taken()["parent"], git(self.path, "rev-parse", "base^{commit}").strip())
        os.unlink(self.applying)
        raise TreeError(
            f"{file} does not apply to {self.starts_with(version)}:\n{indent(result.stdout + result.stderr)}"
            f"The patches before it are commits in {self.path}; this one stopped there in the middle of git am.\n"
            f"Fix the files it names, then in {self.path}: git add, git am --continue, which goes on with those after it; and 'make export'.\n"
            f"Or correct {file} itself, 'git -C {self.path} am --abort && git -C {self.path} reset --hard base' and 'make tree'."
        )

    # export

    def export(self):
        if not os.path.isdir(self.path):
            raise TreeError(f"there is no {self.path}: run 'make tree' first")
        if os.path.exists(self.applying) or self.in_am():
            raise TreeError(f"{self.path} is in the middle of applying patches: finish that, or run 'make tree'")
        if self.in_rebase():
            raise TreeError(
                f"{self.path} is in the middle of a git rebase, and what is there is a part of the series: finish it, or give up with\n"
                f"'git -C {self.path} rebase --abort'"
            )
        if git(self.path, "rev-list", "--merges", "base..HEAD").split():
            raise TreeError(f"{self.path} has merge commits; patches are a straight line: git rebase base")
        if git(self.path, "merge-base", "base", "HEAD") != git(self.path, "rev-parse", "base^{commit}"):
            raise TreeError(f"the commits of {self.path} do not start at the tag 'base'")
        taken = self.taken()
        if self.patch_files() and taken["patches"] != self.patch_key() and taken["head"] == self.head():
            raise TreeError(f"{self.patches} has changed and {self.path} has nothing new: 'make tree' takes the change")

        partial = f"{self.patches}.tmp"
        remove(partial)
        os.makedirs(partial)
        # What is no patch of a commit, the cover letter first of all, stays as it is.
        if os.path.isdir(self.patches):
            for name in os.listdir(self.patches):
                if not PATCH.match(name):
                    shutil.copy2(f"{self.patches}/{name}", f"{partial}/{name}")
        git(self.path, "format-patch", "-q", *FORMAT, "-o", os.path.abspath(partial), "base..HEAD")
        count = sum(1 for name in os.listdir(partial) if PATCH.match(name))
        if os.path.isdir(self.patches):
            subprocess.run(["mv", "--exchange", "-T", partial, self.patches], check=True)
            remove(partial)
        else:
            os.makedirs("patches", exist_ok=True)
            os.rename(partial, self.patches)
        self.note_taken(taken["base"], self.patch_key(), taken["parent"], self.head())
        print(f"export: {count} patches in {self.patches}")
        if self.changes():
            print(f"export: {self.path} has changes that are not committed and so are in no patch")

    # for builds

    @contextlib.contextmanager
    def locked(self):
        """Nobody else uses the tree. Whoever wants a tree's and its parent's takes the parent's last."""
        os.makedirs("build/tree", exist_ok=True)
        with open(f"{self.path}.lock", "w", encoding="utf-8") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                print(f"tree: waiting for another make that uses {self.path}", flush=True)
                fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def make_pristine(self):
        archive, version = self.source()
        stamp = f"{self.pristine}/.lab-base"
        if os.path.exists(stamp) and open(stamp, encoding="utf-8").read() == version:
            return
        for old in (self.pristine, f"{self.pristine}.tmp"):
            remove(old)
        os.makedirs(f"{self.pristine}.tmp")
        with step(f"tree: unpacking {version} for stock"):
            untar(archive, f"{self.pristine}.tmp")
        write(f"{self.pristine}.tmp/.lab-base", version)
        os.rename(f"{self.pristine}.tmp", self.pristine)

    def state(self):
        """The commit and, when files were changed since, what they contain."""
        key = hashlib.sha256(self.head().encode())
        if self.changes():
            key.update(git(self.path, "diff", "HEAD").encode(errors="surrogateescape"))
            for name in git(self.path, "ls-files", "-z", "--others", "--exclude-standard").split("\0"):
                with contextlib.suppress(OSError), open(f"{self.path}/{name}", "rb") as file:
                    key.update(name.encode() + file.read())
        return key.hexdigest()


def diffs(patch):
    """What a patch changes: (path, diff) of each file."""
    with open(patch, encoding="utf-8") as file:
        _, *parts = re.split(r"^diff --git a/(\S+) .*\n", file.read(), flags=re.MULTILINE)
    return list(zip(parts[::2], parts[1::2]))


def base_field(base, name, default=None):
    """What bases/BASE says, or else what that of the base it is onto does."""
    fields = {}
    with open(f"bases/{base}", encoding="utf-8") as file:
        for line in file:
            key, equals, value = line.partition("=")
            if equals and not key.startswith("#"):
                fields.setdefault(key.strip(), value.strip())
    if name in fields:
        return fields[name]
    if "onto" in fields and name != "onto":
        return base_field(fields["onto"], name, default)
    if default is not None:
        return default
    raise TreeError(f"bases/{base} does not say '{name} = ...'")


def name_author(tree):
    for key, value in zip(("name", "email"), AUTHOR):
        git(tree, "config", f"user.{key}", value)


def untar(archive, where):
    xz = subprocess.Popen(["xz", "-dc", "-T0", archive], stdout=subprocess.PIPE)
    tar = subprocess.run(["tar", "-x", "--strip-components=1", "-C", where], stdin=xz.stdout, check=False)
    if tar.returncode or xz.wait():
        raise TreeError(f"unpacking {archive} to {where} failed (is the disk full?)")


def remove(path):
    if os.path.isdir(path):
        subprocess.run(["chmod", "-R", "u+rwX", path], check=False)
        shutil.rmtree(path)


def write(path, text):
    with open(f"{path}.tmp", "w", encoding="utf-8") as file:
        file.write(text)
    os.rename(f"{path}.tmp", path)


def indent(text):
    return "".join(f"  | {line}\n" for line in text.splitlines())


@contextlib.contextmanager
def step(what):
    """One line for a step, with the time it took; on the way, in place on a terminal or every 15 s elsewhere, the time so far."""
    start = time.monotonic()
    done = threading.Event()

    def show():
        while not done.wait(1 if sys.stdout.isatty() else 15):
            print(f"\r{what}: {elapsed(start)} \033[K" if sys.stdout.isatty() else f"{what}: {elapsed(start)} ...", flush=True,
                  end="" if sys.stdout.isatty() else "\n")

    shower = threading.Thread(target=show, daemon=True)
    shower.start()
    result = "failed"
    try:
        yield
        result = "done"
    finally:
        done.set()
        shower.join()
        print(f"{chr(13) if sys.stdout.isatty() else ''}{what}: {elapsed(start)}, {result}", flush=True)


def elapsed(start):
    seconds = int(time.monotonic() - start)
    return f"{seconds // 60}:{seconds % 60:02}"


def main(verb, base):
    if not os.path.exists(f"bases/{base}"):
        names = " ".join(sorted(os.listdir("bases")))
        raise TreeError(f"there is no base '{base}': bases/ has {names}")
    tree = Tree(base)
    with tree.locked():
        if verb == "make":
            tree.make()
        elif verb == "pristine":
            tree.make_pristine()
        elif verb == "export":
            tree.export()


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except TreeError as error:
        sys.exit(f"tree: {error}")
    except KeyboardInterrupt:
        sys.exit("tree: interrupted; the next make starts this step over")
