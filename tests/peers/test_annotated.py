"""The AnnData object of a run, as anndata keeps it and scanpy works with it."""

from __future__ import annotations

from pathlib import Path

import anndata
import numpy as np
import pandas as pd
import pytest
import scanpy

import plexrank


@pytest.mark.parametrize("level", ["patient", "image"])
def test_written_and_read_back(tiny_run: Path, tmp_path: Path, level: str) -> None:
    run = plexrank.open_run(tiny_run)
    data = run.to_anndata(level)
    data.write_h5ad(tmp_path / "run.h5ad")
    read = anndata.read_h5ad(tmp_path / "run.h5ad")
    assert read.shape == (32, 6)
    pd.testing.assert_index_equal(read.obs_names, data.obs_names, check_exact=False, exact=False)
    np.testing.assert_array_equal(read.X, run.embedding(level).to_numpy(np.float32))
    assert set(read.layers) == {"r", "intensity", "importance"}
    assert list(read.var["position"]) == list(data.var["position"])


def test_scanpy_finds_its_way(tiny_run: Path, tmp_path: Path) -> None:
    plexrank.open_run(tiny_run).to_anndata().write_h5ad(tmp_path / "run.h5ad")
    data = scanpy.read_h5ad(tmp_path / "run.h5ad")
    scanpy.pp.pca(data, n_comps=3)
    scanpy.pp.neighbors(data, n_neighbors=5)
    scanpy.tl.rank_genes_groups(data, "label", method="wilcoxon", layer="intensity", use_raw=False)
    assert data.obsm["X_pca"].shape == (32, 3)
    first = {str(name) for name in data.uns["rank_genes_groups"]["names"][0]}
    assert first <= set(data.var_names)


def test_a_run_of_survival(survival_run: Path, tmp_path: Path) -> None:
    plexrank.open_run(survival_run).to_anndata().write_h5ad(tmp_path / "run.h5ad")
    assert anndata.read_h5ad(tmp_path / "run.h5ad").shape == (40, 4)
