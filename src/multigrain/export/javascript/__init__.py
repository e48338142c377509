"""What an export carries for JavaScript, and Node, which an export is compared in."""
