"""Trajectories as data: from conversations to batches.

- `template`: a chat template reduced to what it writes around messages
- `codec`: conversations to token ids and a loss mask, one way for training and acting
- `packing`: sequences to packed rows without cross-talk
- `datamodule`: packed rows for Lightning, in an order that depends on the seed alone
- `store`: trajectories in Parquet
- `agenttraj`: AgentTraj JSON to trajectories
"""
