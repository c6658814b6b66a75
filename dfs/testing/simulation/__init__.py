"""A deterministic world for the real client and the real node: one seed decides everything.

plan.py what a run does, world.py virtual time, disk.py a disk that loses what was not synced, nodes.py and
clients.py the two ends with the network between them, workload.py what users do, faults.py what befalls them,
checker.py and invariants.py what must hold whatever happened, run.py one seed from first to last.
"""
