"""Prints the config reference: what `multigrain init` writes, as a page."""

from multigrain.config.template import chosen_settings, full_template

HEAD = """# Every setting

What `multigrain init` writes. A line that starts with `# ` and a key shows the default; uncomment it to change it.
"""

print(HEAD)
print("```yaml")
print(full_template(chosen_settings(documents="./documents", provider="local")), end="")
print("```")
