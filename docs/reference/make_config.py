"""Prints the config reference: what `multigrain init` writes, as a page."""

from multigrain.config.template import config_template

HEAD = """# Every setting

What `multigrain init` writes. A line that starts with `# ` and a key shows the default; uncomment it to change it.
"""

print(HEAD)
print("```yaml")
print(config_template(documents="./documents", provider="local", full=True), end="")
print("```")
