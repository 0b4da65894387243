"""The settings of a training run, from the docstring of their class: ``{settings}``."""

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from jaxswap._cli.settings import Setting, settings_of


class SettingsList(SphinxDirective):
    """A list of settings with type, default and meaning."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Read the class that the argument names."""
        module, _, name = self.arguments[0].rpartition(".")
        items = [self._item(setting) for setting in settings_of(module, name)]
        return [nodes.definition_list("", *items)]

    def _item(self, setting: Setting) -> nodes.definition_list_item:
        default = "" if setting.default is None else f", default {setting.default}"
        term = nodes.term("", "", nodes.literal(text=setting.name))
        term += nodes.Text(f": {setting.type}{default}")
        meaning, _ = self.parse_inline(setting.meaning)
        body = nodes.definition("", nodes.paragraph("", "", *meaning))
        return nodes.definition_list_item("", term, body)


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.add_directive("settings", SettingsList)
    return {"parallel_read_safe": True}
