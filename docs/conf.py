"""Settings of the documentation site: `make docs` builds it, warnings are errors."""

import os
import sys
from pathlib import Path

# Importing what is documented would look for GPUs; the reference needs none.
os.environ["JAX_PLATFORMS"] = "cpu"

HERE = Path(__file__).parent
sys.path[:0] = [str(HERE.parent), str(HERE / "extensions")]

project = "jaxswap"
author = "The jaxswap authors"
copyright = author
extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "public_names",
    "command_help",
    "settings_list",
]
exclude_patterns = ["extensions"]

# Every reference must lead somewhere. Other libraries, and types without a public name,
# are not part of the site.
nitpicky = True
nitpick_ignore_regex = [
    (r"py:.*", r"(?!jaxswap\b).*"),
    (r"py:.*", r"jaxswap\._.*"),
    (r"py:.*", r"jaxswap\.(linen\.Target|nnx\.R|medical.*\.T)"),  # type variables
]

# Docstrings mark code with single backticks, as Markdown does.
default_role = "literal"
autodoc_member_order = "bysource"
autodoc_preserve_defaults = True
autodoc_default_options = {"members": True}
napoleon_use_ivar = True
napoleon_attr_annotations = False  # the signature has the types
napoleon_use_rtype = False
maximum_signature_line_length = 72
python_display_short_literal_types = True
add_module_names = False
toc_object_entries = False

# Notebooks are shown as they are stored; the tests execute them.
nb_execution_mode = "off"
myst_heading_anchors = 3

html_theme = "pydata_sphinx_theme"
html_title = "jaxswap"
html_show_sourcelink = False
html_copy_source = False
html_show_sphinx = False
html_static_path = ["static"]
html_css_files = ["site.css"]
html_theme_options = {
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "secondary_sidebar_items": ["page-toc"],
    "article_header_end": [],
    "footer_start": ["copyright"],
    "footer_end": [],
}
