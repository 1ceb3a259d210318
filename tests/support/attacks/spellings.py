"""How people try to leave a folder, in a URL and in plain text."""

from urllib.parse import quote

OUTSIDE = "../../outside/canary.txt"
_OVERLONG_SLASH, _OVERLONG_DOT = "%c0%af", "%c0%ae"

IN_TEXT = {
    "dots": OUTSIDE,
    "dots_deep": "../" * 60 + "etc/passwd",
    "absolute": "/etc/passwd",
    "url": "file:///etc/passwd",
    "backslashes": OUTSIDE.replace("/", "\\"),
    "double_dots": OUTSIDE.replace("..", "....").replace("/", "//"),
    "semicolons": OUTSIDE.replace("..", "..;"),
    "encoded": quote(OUTSIDE, safe="").replace(".", "%2e"),
    "home": "~root/.ssh/id_rsa",
    "shell": "$(id);`id`|id",
    "template": "{{7*7}}${7*7}%s%n",
    "sql": "x' OR 1=1;--",
}

IN_A_PATH = {
    "encoded_once": quote(OUTSIDE, safe="").replace(".", "%2e"),
    "encoded_twice": quote(quote(OUTSIDE, safe="").replace(".", "%2e"), safe=""),
    "dots_plain": OUTSIDE,
    "slashes_encoded": OUTSIDE.replace("/", "%2f"),
    "overlong_utf8": OUTSIDE.replace("/", _OVERLONG_SLASH).replace(".", _OVERLONG_DOT),
    "backslashes": OUTSIDE.replace("/", "%5c"),
    "nul": f"{OUTSIDE.replace('/', '%2f')}%00.jpg",
    "fullwidth": OUTSIDE.replace(".", "%ef%bc%8e").replace("/", "%ef%bc%8f"),
    "two_dot_leaders": OUTSIDE.replace("..", "%e2%80%a5"),
    "semicolons": OUTSIDE.replace("..", "..;"),
    "absolute": "%2fetc%2fpasswd",
    "absolute_after_slash": "/etc/passwd",
    "newline": "a%0d%0aX-Injected:%20yes",
    "long": "..%2f" * 1000 + "etc%2fpasswd",
}
