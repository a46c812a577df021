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
ENV FABRIC_DASHBOARD__BIND=0.0.0.0
CMD ["python3", "run_complete_system.py", "--no-browser"]
