"""The documentation's build: `make docs`. Sphinx, because it reads the docstrings' references as they are written."""

import re
from pathlib import Path

import click
from docutils import nodes
from docutils.parsers.rst import Directive
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.errors import ExtensionError

from salesmachine_async._version import __version__
from salesmachine_async.cli.app import app as cli

project = "salesmachine_async"
author = "the salesmachine_async founders"
project_copyright = f"2026, {author}"
version = release = __version__

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = f"salesmachine-async {version}"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
html_theme_options = {"source_edit_link": "", "source_view_link": ""}

# Links to headings as GitHub has them, so that a page reads the same unbuilt.
myst_heading_anchors = 4
myst_enable_extensions = ["deflist"]

# In a docstring `Stats.dropped` is a reference.
default_role = "py:obj"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
maximum_signature_line_length = 100
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False


class HelpPages(Directive):
    """The help page of every command, each below a heading."""

    def run(self) -> list[nodes.Node]:
        """Ask the program."""
        return [self._section(words, text) for words, text in help_pages()]

    def _section(self, words: str, text: str) -> nodes.section:
        section = nodes.section("", nodes.title("", words), nodes.literal_block(text, text, language="text"))
        section["ids"].append(nodes.make_id(words))
        self.state.document.note_implicit_target(section, section)
        return section


def help_pages() -> list[tuple[str, str]]:
    """List each command's words with its help, as a terminal of 92 columns shows it."""

    def pages(command: click.Command, words: str, parent: click.Context | None) -> list[tuple[str, str]]:
        context = command.context_class(
            command,
            info_name=words.rsplit(maxsplit=1)[-1],
            parent=parent,
            terminal_width=92,
            **command.context_settings,
        )
        below = command.commands if isinstance(command, click.Group) else {}
        found = [(words, command.get_help(context))]
        return found + [page for name, each in below.items() for page in pages(each, f"{words} {name}", context)]

    return pages(cli, "salesmachine", None)


def resolve_short(
    app: Sphinx, env: BuildEnvironment, node: addnodes.pending_xref, shown: nodes.TextElement
) -> nodes.Element | None:
    """Resolve the name of a class that the docstring's module imports from another; that of a member too."""
    target = node["reftarget"]
    if node.get("refdomain") != "py" or not target[:1].isupper():
        return None
    domain = env.domains.python_domain
    # A field has no place of its own: it is in the description of its class.
    for wanted in (target, target.partition(".")[0]):
        names = sorted(
            (name for name in domain.objects if name.endswith(f".{wanted}")), key=lambda name: name.count(".")
        )
        if names:
            return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", names[0], node, shown)
    return None


def leave_out_aliases(_app: Sphinx, doctree: nodes.document) -> None:
    """Leave out what autodoc adds to an alias: the private names behind it."""
    for paragraph in list(doctree.findall(nodes.paragraph)):
        if paragraph.astext().startswith("alias of "):
            paragraph.parent.remove(paragraph)


def public_titles(_app: Sphinx, doctree: nodes.document, _page: str) -> None:
    """Show the public name in the tooltip of a reference, not the private module that defines it."""
    for reference in doctree.findall(nodes.reference):
        if "._" in reference.get("reftitle", ""):
            reference["reftitle"] = reference.get("refid") or reference["refuri"].partition("#")[2]


def add_results(_app: Sphinx, page: str, source: list[str]) -> None:
    """Add the figures and plots of this machine to the page on performance, where `make bench` has written them."""
    results = Path(__file__).parent.parent / "benchmarks/RESULTS.md"
    if page == "performance" and results.exists():
        text = re.sub("^#", "##", results.read_text(encoding="utf-8"), flags=re.MULTILINE)
        source[0] += "\n" + text.replace("](plots/", "](../benchmarks/plots/")


def link_included_pages(_app: Sphinx, _page: str, source: list[str]) -> None:
    """Lead links to the documents at the top of the repository to the pages that include them."""
    for name, page in (("SECURITY", "policy"), ("CONTRIBUTING", "contributing"), ("CHANGELOG", "changelog")):
        source[0] = source[0].replace(f"](../{name}.md", f"]({page}.md")


def check_loads_nothing(app: Sphinx, failure: Exception | None) -> None:
    """Fail if a page loads a script, a style, a font or a picture from elsewhere; the site works without a network."""
    if failure is None:
        for page in Path(app.outdir).rglob("*.html"):
            loaded = re.findall(
                r"""<(?:script|img|iframe|source)[^>]+src="((?:https?:)?//[^"]+)|<link[^>]+href="((?:https?:)?//[^"]+)""",
                page.read_text(encoding="utf-8"),
            )
            if loaded:
                raise ExtensionError(f"{page.name} loads {loaded}")
        for style in Path(app.outdir).rglob("*.css"):
            if re.search(r"""(?:@import|url\()\s*["']?(?:https?:)?//""", style.read_text(encoding="utf-8")):
                raise ExtensionError(f"{style.name} loads something from elsewhere")


def check_shows_nothing_private(app: Sphinx, failure: Exception | None) -> None:
    """Fail if the reference of the API shows a name that begins with an underscore, or names a private module."""
    package = Path(__file__).parent.parent / "salesmachine_async"
    modules = {path.stem for path in package.rglob("*.py") if "/_" in str(path.relative_to(package.parent))}
    for page in Path(app.outdir, "reference").glob("api*.html") if failure is None else ():
        text = page.read_text(encoding="utf-8")
        shown = re.findall(r">(?:salesmachine_async[\w.]*\.)?(_[a-z]\w*)<", text)
        shown += set(re.findall(r'(?<!">)<code class="xref[^>]*><span class="pre">([\w.]+)</span>', text)) & modules
        if shown:
            raise ExtensionError(f"{page.name} shows {shown}")


def setup(app: Sphinx) -> None:
    """Register what is defined above."""
    app.connect("source-read", add_results)
    app.connect("source-read", link_included_pages)
    app.connect("build-finished", check_loads_nothing)
    app.connect("build-finished", check_shows_nothing_private)
    app.connect("missing-reference", resolve_short)
    app.connect("doctree-read", leave_out_aliases)
    app.connect("doctree-resolved", public_titles)
    app.add_directive("help-pages", HelpPages)
