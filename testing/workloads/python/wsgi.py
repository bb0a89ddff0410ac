"""A WSGI application that works for each request: what uWSGI runs in its interpreters."""


def spin(n):
    total = 0
    for i in range(n):
        total += i & 3
    return total


def render(n):
    return spin(n)


def application(environ, start_response):
    start_response("200 OK", [("Content-Type", "text/plain")])
    return [str(render(200000)).encode()]
