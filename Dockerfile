# The whole fabric in one container, not as root. Data lives in the volume /app/data.
FROM python:3.11-slim
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir -r requirements.txt -c constraints.txt \
    && useradd --create-home --uid 10001 fabric \
    && mkdir /app/data && chown fabric:fabric /app/data
COPY --chown=fabric:fabric . .
USER fabric
VOLUME /app/data
EXPOSE 5001
# 0.0.0.0 is not loopback: without TLS the page is read-only behind the token (see README, Production).
ENV FABRIC_DASHBOARD__BIND=0.0.0.0 \
    FABRIC_DASHBOARD__PORT_LAST=5001
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s \
    CMD ["python3", "-c", "import urllib.request as r; r.urlopen('http://127.0.0.1:5001/healthz', timeout=4)"]
CMD ["python3", "run_complete_system.py", "--no-browser"]
