"""Results that survive: a directory of Parquet files, in which each run is found by what decides its result.

`run_key.py` says what that is, `run_batch.py` is the columnar form of finished runs, `files.py` writes whole files or
none, `manifest.py` says which runs are in which file, and `store.py` puts them together.
"""

from llmlab.experiments.store.inspection import StoreWarning
from llmlab.experiments.store.run_batch import Keep, RunBatch
from llmlab.experiments.store.run_buffer import RunBuffer
from llmlab.experiments.store.run_key import SIMULATION_VERSION, RunKeys, run_key
from llmlab.experiments.store.store import Store

__all__ = ["Keep", "RunBatch", "RunBuffer", "RunKeys", "SIMULATION_VERSION", "Store", "StoreWarning", "run_key"]
