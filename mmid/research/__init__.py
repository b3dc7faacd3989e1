"""The 2020 report and studies beyond it; nothing but the command line imports them."""
