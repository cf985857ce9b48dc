"""Studies: arms x data sets x seeds, run where they are missing, compared pair by pair, kept as evidence.

design.py names what there is to run, ledger.py says how far it is, runner.py runs it, worker.py is one run, evidence.py
keeps what it showed; curves.py and compare.py read the evidence, report.py and figure.py draw it, claims.py sets it
beside the paper and the blog.
"""
