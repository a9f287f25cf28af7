"""Trajectories as data: from conversations to batches.

- `rendering`: chat templates, run in a process of their own; `template`: one reduced to what it writes around messages
- `tooltemplate`: the same with calls of tools: `toolprobes` are what it is made to write, `toolglue` is what is found
- `codec`: conversations to token ids and a loss mask, one way for training and acting; `toolcodec`: those with calls of
  tools; `transcript`: a conversation that grows; `encoding`: text and control tokens to ids; `guard`: control tokens
  that are only spelt out
- `packing`: sequences to packed rows without cross-talk
- `datamodule`: packed rows for Lightning, in an order that depends on the seed alone
- `rows`: a trajectory as a row of plain values, and its fingerprint; `store`: rows in Parquet
- `agenttraj`: records of AgentTraj and of other data sets to trajectories and back; `conversation`: what of a record is
  instruction, observation and answer; `messages`: one message in any spelling
- `sources`, `imports`: files, folders and data sets of the Hub; what is damaged is set aside; `jsonfiles`: layouts of
  JSON files; `scores`: whether rewards are on the scale of their environment; `footer`: how much is in a Parquet file;
  `stream`: files of any number of rows
- `prompts`: what trajectory files tell before the first observation
- `atomic`: files that are there whole or not at all
"""
