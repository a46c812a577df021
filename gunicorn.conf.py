"""Read by gunicorn in this folder: makes the specification's command line serve the whole fabric.

gunicorn no longer ships an eventlet worker, and the fabric runs real threads: the name `eventlet` is bound to the
threaded worker. Each worker shows the dashboard; the one that gets the data folder's lease is the engine.
"""

from gunicorn.workers import SUPPORTED_WORKERS

SUPPORTED_WORKERS["eventlet"] = "gunicorn.workers.gthread.ThreadWorker"

threads = 200  # one per open WebSocket or streaming request
timeout = 120
graceful_timeout = 5
keepalive = 30
control_socket_disable = True  # no socket in the home folder that a second one would take over


def post_worker_init(worker):
    """Start the worker's dashboard; one of them becomes the engine."""
    from fabric.core.log import start_logging
    from web_dashboard import app

    start_logging()
    addresses = [f"{address[0]}:{address[1]}" for address in worker.cfg.address if not isinstance(address, str)]
    app.start(addresses=addresses, workers=worker.cfg.workers, engine=True)


def worker_exit(_server, _worker):
    """Stop what `post_worker_init` started."""
    from web_dashboard import app

    app.stop()
