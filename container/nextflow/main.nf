// A study to its ranking and report, as a module of a pipeline; one machine or one Slurm job, in the container.
process PLEXRANK_RUN {
    tag "$meta.id"
    label 'process_high'

    container "${ params.plexrank_container ?: 'plexrank.sif' }"

    input:
    tuple val(meta), path(cohort) // a folder with study.yaml, and all that it names

    output:
    tuple val(meta), path("${prefix}/ranking/ranking.csv")         , emit: ranking
    tuple val(meta), path("${prefix}/ranking/summary.json")        , emit: summary
    tuple val(meta), path("${prefix}/ranking/predictions.csv")     , emit: predictions
    tuple val(meta), path("${prefix}/report/report.html")          , emit: report
    tuple val(meta), path("${prefix}/report/ranking_mqc.json")     , emit: multiqc
    tuple val(meta), path("${prefix}")                             , emit: run
    path "versions.yml"                                            , emit: versions

    when:
    task.ext.when == null || task.ext.when

    script:
    def args = task.ext.args ?: ''
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    export OMP_NUM_THREADS=${task.cpus}
    plexrank run $cohort/study.yaml --out $prefix $args

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        plexrank: \$(plexrank --version | sed 's/plexrank //')
    END_VERSIONS
    """

    stub:
    prefix = task.ext.prefix ?: "${meta.id}"
    """
    mkdir -p $prefix/ranking $prefix/report
    touch $prefix/ranking/ranking.csv $prefix/ranking/summary.json $prefix/ranking/predictions.csv
    touch $prefix/report/report.html $prefix/report/ranking_mqc.json

    cat <<-END_VERSIONS > versions.yml
    "${task.process}":
        plexrank: \$(plexrank --version | sed 's/plexrank //')
    END_VERSIONS
    """
}
