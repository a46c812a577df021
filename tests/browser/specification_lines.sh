curl http://localhost:5001/api/status | python3 -m json.tool
curl -s http://localhost:5001/api/status | python3 -c "import json,sys; print(json.dumps(json.load(sys.stdin)['alerts'], indent=2))"
curl -s http://localhost:5001/api/status | python3 -c "import json,sys; alerts=json.load(sys.stdin)['alerts']; print(f'Total: {alerts[\"total_alerts\"]}, Critical: {alerts[\"critical_alerts\"]}')"
