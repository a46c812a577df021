"""Pages, REST and Socket.IO: shows what the reports say, pushes each change, and passes acts on.

A *section* is one of the seven keys of ``/api/status``; its *card* shows the report, its *dialog* everything
behind it. The *board* is the dashboard's memory of the reports; the *hub* pushes them. An *act* is something a
person may order (approve, roll back, acknowledge, freeze ...).
"""
