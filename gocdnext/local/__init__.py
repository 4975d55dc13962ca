"""`run-local`: a pipeline on this machine, without a server (contract-cli-plugins 4.5).

`plan` and `envfile` are pure; `runner` runs a plan on the agent's own engines; `report` prints what happens.
"""
